import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from aitax_ray.evaluation import suspects as module
from aitax_ray.evaluation.suspects import find_suspects

NUM_CLASSES, SIZE = 4, 16


def draw(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of unit length, around a direction per class."""
    chance = np.random.default_rng(seed)
    target = np.arange(num) % NUM_CLASSES
    embedding = 7 * np.eye(SIZE)[target] + chance.normal(0, 1, (num, SIZE))
    return (embedding / np.linalg.norm(embedding, axis=1, keepdims=True)).astype(np.float16), target


def test_photographs_with_a_wrong_label_are_found() -> None:
    unit, target = draw(400)
    wrong = np.array([3, 50, 201, 333])
    labels = target.copy()
    labels[wrong] = (target[wrong] + 1) % NUM_CLASSES
    found = find_suspects(unit, labels, np.arange(400), NUM_CLASSES)
    assert {suspect.place for suspect in found} == set(wrong)
    assert all(suspect.looks_like == target[suspect.place] for suspect in found)
    assert all(suspect.confidence >= 0.9 and suspect.label_score <= 0.05 for suspect in found)
    assert [s.confidence - s.label_score for s in found] == sorted(
        (s.confidence - s.label_score for s in found), reverse=True
    )
    assert find_suspects(unit, labels, np.arange(400), NUM_CLASSES, most=2) == found[:2]


def test_the_model_is_linear_discriminant_analysis() -> None:
    unit, target = draw(300)
    embedding = unit.astype(np.float64)
    weight, bias = module._fit(unit, target, np.arange(200), NUM_CLASSES)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=None).fit(embedding[:200], target[:200])
    ours = (embedding[200:] @ weight.T + bias).argmax(axis=1)
    assert (ours == oracle.predict(embedding[200:])).mean() >= 0.97  # which does not shrink


def test_a_group_is_judged_by_the_others_only() -> None:
    """A wrongly labelled occurrence of many photographs would defend itself if some of them taught the model."""
    unit, target = draw(400)
    labels, group = target.copy(), np.arange(400)
    occurrence = np.flatnonzero(target == 0)[:40]
    labels[occurrence], group[occurrence] = 1, 400
    found = {suspect.place for suspect in find_suspects(unit, labels, group, NUM_CLASSES)}
    assert len(found & set(occurrence)) >= 24
    assert len(found - set(occurrence)) <= 2


@pytest.mark.parametrize(("num", "num_groups"), [(0, 1), (1, 1), (4, 1), (4, 4), (8, 8)])
def test_few_photographs_are_no_error(num: int, num_groups: int) -> None:
    unit, target = draw(num) if num else (np.zeros((0, SIZE), np.float16), np.zeros(0, np.int64))
    found = find_suspects(unit, target, np.arange(num) % num_groups, NUM_CLASSES)
    assert all(suspect.looks_like != target[suspect.place] for suspect in found)
    if num < 5 or num_groups == 1:
        assert found == []


def test_embeddings_that_are_no_numbers_are_not_judged_and_stop_nothing() -> None:
    unit, target = draw(400)
    labels = target.copy()
    labels[50] = (target[50] + 1) % NUM_CLASSES
    unit[[3, 7]], unit[8, 0] = np.nan, np.inf
    assert {suspect.place for suspect in find_suspects(unit, labels, np.arange(400), NUM_CLASSES)} == {50}


def test_embeddings_that_are_all_equal_make_nobody_suspected() -> None:
    unit = np.full((40, SIZE), 0.25, np.float16)
    assert find_suspects(unit, np.arange(40) % 2, np.arange(40), 2) == []
