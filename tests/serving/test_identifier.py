"""serving.identifier: from pixels to an answer, without Ray and HTTP."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.info import Thresholds
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.fusion import Fusion
from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.serving.identifier import Identifier, rank
from tests.engines import COLOURS, write_small_engine

ALL = Thresholds(min_score=0, max_total_score=1)


@pytest.fixture(scope="module")
def identifier(tmp_path_factory: pytest.TempPathFactory) -> Identifier:
    folder: Path = tmp_path_factory.mktemp("engine") / "colours-1"
    return Identifier(open_engine(str(write_small_engine(folder))))


def test_candidates_end_at_the_total_score_the_least_score_or_the_number_asked_for() -> None:
    scores = np.array([0.6, 0.3, 0.08, 0.02])
    assert [i for i, _ in rank(scores, ALL, None)] == [0, 1, 2, 3]
    assert [i for i, _ in rank(scores, Thresholds(min_score=0.05, max_total_score=1), None)] == [0, 1, 2]
    assert [i for i, _ in rank(scores, Thresholds(min_score=0, max_total_score=0.85), None)] == [0, 1]
    assert [i for i, _ in rank(scores, ALL, 1)] == [0]


def test_there_is_always_one_candidate() -> None:
    assert len(rank(np.full(400, 1 / 400), Thresholds(min_score=0.5, max_total_score=0.9), None)) == 1


@pytest.mark.parametrize("key", list(COLOURS))
def test_photograph_is_named_and_illustrated(identifier: Identifier, key: str) -> None:
    answer = identifier.identify([Image.new("RGB", (40, 30), COLOURS[key])])
    best = answer.candidates[0]
    assert best.taxon.species_key == key
    assert best.score > 0.9
    assert [image.url for image in best.illustrations] == [f"https://photos.example/{key}/{n}.jpg" for n in range(3)]
    similarities = [image.similarity for image in best.illustrations]
    assert similarities == sorted(similarities, reverse=True)
    assert answer.engine_version == "colours-1"


def test_the_engines_decisions_turn_logits_into_scores(identifier: Identifier) -> None:
    """Of two photographs, one is red and one is green: the fusion joins them, then the neighbours vote."""
    photos = [Image.new("RGB", (40, 30), COLOURS[key]) for key in list(COLOURS)[:2]]
    pixels = np.stack([identifier.engine.info.transform.pixels(one) for one in photos])
    embeddings, logits = identifier._classifier.predict(pixels)
    fusion, vote = Fusion(rule="product", temperatures=(1.0, 3.0, 3.0)), Vote(share=0.4, power=1.0, num_neighbors=2)
    info = identifier.engine.info.model_copy(update={"decisions": Decisions(fusion=fusion, vote=vote)})
    identifier.engine.info, before = info, identifier.engine.info
    try:
        answer = identifier.identify(photos)
    finally:
        identifier.engine.info = before
    votes = identifier._gallery.compare(embeddings, vote).votes
    assert votes is not None
    np.testing.assert_allclose(votes, [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    expected = 0.6 * fusion.probabilities(logits)[0] + 0.4 * votes.mean(axis=0)
    found = {candidate.taxon.species_key: candidate.score for candidate in answer.candidates}
    assert found == pytest.approx({key: expected[place] for place, key in enumerate(COLOURS) if key in found}, rel=1e-5)
    assert len(found) >= 2
