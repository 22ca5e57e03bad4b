"""Identification as pure code, from pixels to an `Identification`. No Ray, no HTTP.

Its steps: OnnxClassifier.predict; the scores by the engine's `decisions`, with Gallery.vote where the neighbours have a
share; `rank`; Gallery.illustrate. `Identifier` runs them in one process, the service in several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aitax_ray.engine.bundle import Engine, Taxon, Thresholds
from aitax_ray.serving.gallery import Gallery, Illustration, Picture

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGES = 5  # photographs of one individual; Pl@ntNet has the same limit


@dataclass(frozen=True)
class Candidate:
    """A species that the photograph may show."""

    taxon: Taxon
    score: float
    """Calibrated probability."""
    illustrations: tuple[Illustration, ...]


@dataclass(frozen=True)
class Identification:
    """The answer: its candidates, the most probable one first."""

    candidates: tuple[Candidate, ...]
    engine_version: str


def rank(scores: np.ndarray, thresholds: Thresholds, max_results: int | None) -> list[tuple[int, float]]:
    """Choose the candidates from the score of each class, (K,): (class_index, score), best first.

    The list ends when the sum of the scores reaches `max_total_score`, when a score is below `min_score`, or after
    `max_results`. It has at least one candidate.
    """
    order = np.argsort(-scores, kind="stable")
    before = np.cumsum(scores[order]) - scores[order]
    is_candidate = (scores[order] >= thresholds.min_score) & (before < thresholds.max_total_score)
    number = max(1, int(is_candidate.sum()))
    return [(int(i), float(scores[i])) for i in order[: min(number, max_results or number)]]


def assemble(
    engine_version: str, taxa: Sequence[Taxon], ranked: list[tuple[int, float]], illustrations: list[list[Illustration]]
) -> Identification:
    """Assemble an answer from its parts."""
    pairs = zip(ranked, illustrations, strict=True)
    candidates = tuple(Candidate(taxa[index], score, tuple(images)) for (index, score), images in pairs)
    return Identification(candidates, engine_version)


class Identifier:
    """Answers from an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._classifier = engine.classifier()
        self._gallery = Gallery(engine.index(), len(engine.info.classes))

    def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        return self._gallery.picture(image_id)

    def identify(
        self, photos: Sequence["Image.Image"], max_results: int | None = None, num_illustrations: int = 3
    ) -> Identification:
        """Identify one individual from one or more photographs of it."""
        info = self.engine.info
        embeddings, logits = self._classifier.predict(np.stack([info.transform.pixels(photo) for photo in photos]))
        scores, vote = info.decisions.fusion.probabilities(logits)[0], info.decisions.vote
        if vote.share:
            scores = vote.join(scores, self._gallery.vote(embeddings, vote))
        ranked = rank(scores, info.thresholds, max_results)
        illustrations = self._gallery.illustrate(embeddings, [index for index, _ in ranked], num_illustrations)
        return assemble(info.version, self.engine.taxa, ranked, illustrations)
