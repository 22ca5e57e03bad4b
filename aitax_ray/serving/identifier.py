"""Identification as pure code, from pixels to an `Identification`. No Ray, no HTTP.

Its steps: OnnxClassifier.predict; Gallery.compare; Reasoning.conclude; Gallery.illustrate; Reasoning.assemble.
`Identifier` runs them in one process, the service in several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aitax_ray.engine.bundle import Engine, Taxon
from aitax_ray.engine.info import EngineInfo, Thresholds
from aitax_ray.engine.withdrawn import WithdrawnLists
from aitax_ray.evaluation.answers import make_taxonomy
from aitax_ray.serving.findings import Comparison, Illustration
from aitax_ray.serving.gallery import Gallery, Picture
from aitax_ray.serving.judgement import GroupScore, Judgement, Scores, add_up, judge

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGES = 5  # photographs of one individual; Pl@ntNet has the same limit
MAX_RESULTS = 250  # candidates in an answer, as in ai-taxonomist


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
    judgement: Judgement
    genera: tuple[GroupScore, ...]
    families: tuple[GroupScore, ...]
    engine_version: str


@dataclass(frozen=True)
class Conclusion:
    """What the scores of an individual say, before it is illustrated."""

    ranked: tuple[tuple[int, float], ...]
    """The class_index and the score of each candidate, best first."""
    judgement: Judgement
    genera: tuple[GroupScore, ...]
    families: tuple[GroupScore, ...]

    @property
    def classes(self) -> list[int]:
        """The class_index of each candidate."""
        return [class_index for class_index, _ in self.ranked]


def rank(scores: np.ndarray, thresholds: Thresholds, max_results: int | None) -> list[tuple[int, float]]:
    """Choose the candidates from the score of each class, (K,): (class_index, score), best first.

    The list ends when the sum of the scores reaches `max_total_score`, when a score is below `min_score`, or after
    `max_results` (MAX_RESULTS at most). It has at least one candidate.
    """
    likely = np.flatnonzero(scores >= thresholds.min_score)
    if not len(likely):
        likely = np.atleast_1d(scores.argmax())
    order = likely[np.argsort(-scores[likely], kind="stable")]
    best = scores[order]
    number = max(1, int((np.cumsum(best) - best < thresholds.max_total_score).sum()))
    number = min(number, max_results or MAX_RESULTS, MAX_RESULTS)
    return list(zip(order[:number].tolist(), best[:number].tolist(), strict=True))


class Reasoning:
    """Draws an engine's conclusions from what its network and its index say."""

    def __init__(self, info: EngineInfo, taxa: Sequence[Taxon]) -> None:
        self._info, self._taxa = info, taxa
        columns = ([getattr(taxon, name) for taxon in taxa] for name in ("species_key", "name", "genus", "family"))
        self._taxonomy = make_taxonomy(*columns)

    def expect(self, logits: np.ndarray, max_results: int | None = None) -> list[int]:
        """Give the class_index of each candidate as it is without the vote of similar photographs."""
        scores = self._info.decisions.fusion.probabilities(logits)[0]
        return [class_index for class_index, _ in rank(scores, self._info.thresholds, max_results)]

    def conclude(self, logits: np.ndarray, comparison: Comparison, max_results: int | None = None) -> Conclusion:
        """Conclude from the logits (N, K) of the photographs of one individual, and from its neighbours."""
        decisions = self._info.decisions
        together = self._score(logits, comparison, np.zeros(1, np.int64))
        alone = self._score(logits, comparison, np.arange(len(logits))) if len(logits) > 1 else together
        scores = together.probabilities[0]
        judgement = judge(decisions, self._taxonomy, together, alone)
        genera, families = add_up(self._taxonomy, scores)
        return Conclusion(tuple(rank(scores, self._info.thresholds, max_results)), judgement, genera, families)

    def _score(self, logits: np.ndarray, comparison: Comparison, starts: np.ndarray) -> Scores:
        """Score the answers to photographs that stand together from each of `starts` on."""
        decisions, sizes = self._info.decisions, np.diff(np.append(starts, len(logits)))
        probabilities = decisions.fusion.probabilities(logits, starts)
        if comparison.votes is not None:
            votes = np.add.reduceat(comparison.votes, starts, axis=0) / sizes[:, None]
            probabilities = decisions.vote.join(probabilities, votes)
        similarity = np.maximum.reduceat(comparison.similarity, starts)
        return Scores(probabilities, decisions.fusion.energy(logits, starts), similarity)

    def assemble(self, conclusion: Conclusion, illustrations: Sequence[Sequence[Illustration]]) -> Identification:
        """Assemble the answer; `illustrations` has those of each candidate."""
        pairs = zip(conclusion.ranked, illustrations, strict=True)
        return Identification(
            candidates=tuple(Candidate(self._taxa[place], score, tuple(images)) for (place, score), images in pairs),
            judgement=conclusion.judgement,
            genera=conclusion.genera,
            families=conclusion.families,
            engine_version=self._info.version,
        )


class Identifier:
    """Answers from an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._classifier = engine.classifier()
        self._gallery = Gallery(engine.index(), len(engine.info.classes))
        self._gallery.withdraw(WithdrawnLists(engine).read() or ())

    def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        return self._gallery.picture(image_id)

    def embed(self, photo: "Image.Image") -> list[float]:
        """Compute the embedding of a photograph."""
        embeddings, _ = self._classifier.predict(self.engine.info.transform.pixels(photo)[None])
        numbers: list[float] = embeddings[0].tolist()
        return numbers

    def identify(
        self, photos: Sequence["Image.Image"], max_results: int | None = None, num_illustrations: int = 3
    ) -> Identification:
        """Identify one individual from one or more photographs of it."""
        info = self.engine.info
        embeddings, logits = self._classifier.predict(np.stack([info.transform.pixels(photo) for photo in photos]))
        reasoning = Reasoning(info, self.engine.taxa)
        conclusion = reasoning.conclude(logits, self._gallery.compare(embeddings, info.decisions.vote), max_results)
        illustrations = self._gallery.illustrate(embeddings, conclusion.classes, num_illustrations)
        return reasoning.assemble(conclusion, illustrations)
