import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from aitax_ray.evaluation.lookalikes import find_groups, find_pairs, group_of, measure_groups, pair_rows
from tests.evaluation.rows import make_answers, make_taxonomy


def test_pairs_count_mistakes_both_ways() -> None:
    chance = np.random.default_rng(0)
    target, top = chance.integers(0, 6, 500), chance.integers(0, 6, 500)
    pairs = find_pairs(make_answers(target.tolist(), top.tolist()), 6)
    expected = confusion_matrix(target, top)
    assert len(pairs.a) == 15
    np.testing.assert_array_equal(pairs.a_as_b, expected[pairs.a, pairs.b])
    np.testing.assert_array_equal(pairs.b_as_a, expected[pairs.b, pairs.a])
    np.testing.assert_allclose(pairs.share_a_as_b, pairs.a_as_b / expected.sum(axis=1)[pairs.a])
    np.testing.assert_allclose(pairs.share_b_as_a, pairs.b_as_a / expected.sum(axis=1)[pairs.b])
    assert (np.diff(pairs.a_as_b + pairs.b_as_a) <= 0).all()


def test_each_species_of_a_pair_shows_a_photograph_of_the_mistake_if_there_is_one() -> None:
    answers = make_answers(
        target=[0, 0, 0, 1, 1, 2],
        top=[1, 1, 0, 1, 1, 0],
        score=[0.6, 0.8, 0.9, 0.7, 0.5, 0.4],
        image_id=["low", "high", "right", "best", "second", "other"],
    )
    pairs = find_pairs(answers, 4)
    assert [(int(a), int(b)) for a, b in zip(pairs.a, pairs.b, strict=True)] == [(0, 1), (0, 2)]
    assert pairs.image_a.tolist() == ["high", "right"]  # 0 was never taken for 2
    assert pairs.image_b.tolist() == ["best", "other"]


def test_a_species_without_a_photograph_has_no_picture_and_the_share_0() -> None:
    pairs = find_pairs(make_answers([0], [1]), 2)
    assert (pairs.image_b.tolist(), pairs.share_b_as_a.tolist(), pairs.share_a_as_b.tolist()) == ([""], [0], [1])


def test_photographs_of_one_occurrence_count_as_one_occurrence() -> None:
    pairs = find_pairs(make_answers([0, 0, 1, 1], [1, 1, 0, 0], occurrence=[7, 7, 7, 8]), 2)
    assert (pairs.num_occurrences.tolist(), pairs.a_as_b.tolist()) == ([2], [2])


def test_without_mistakes_there_are_no_pairs_and_no_groups() -> None:
    for answers in (
        make_answers([0, 1], [0, 1]),
        make_answers([-1, 0], [0, -1]),
        make_answers([0], [1]).select(np.arange(0)),
    ):
        pairs = find_pairs(answers, 2)
        assert len(pairs.a) == len(pairs.image_a) == 0
        assert find_groups(pairs, make_taxonomy([0, 0])) == []


def test_species_that_the_engine_guesses_between_are_a_group() -> None:
    # 0 and 1 by guess; 2 is always taken for 1; 3 has mistakes with 4, but only in two occurrences; 5 is sure.
    target = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2 + [4] * 2 + [5] * 4
    top = [0, 1] * 2 + [0, 1] * 2 + [1] * 4 + [4] * 2 + [4] * 2 + [5] * 4
    pairs = find_pairs(make_answers(target, top), 6)
    found = find_groups(pairs, make_taxonomy([0, 0, 0, 1, 1, 1]))
    assert [(group.species, group.name, group.genus) for group in found] == [((0, 1, 2), "s0 / s1 / s2", "g0")]
    assert find_groups(pairs, make_taxonomy([0, 0, 1, 1, 1, 1]))[0].genus is None
    assert find_groups(pairs, make_taxonomy([-1, -1, -1, 1, 1, 1]))[0].genus is None
    assert find_groups(pairs, make_taxonomy([0] * 6), min_share=0.6) == []
    assert group_of(found, 6).tolist() == [0, 0, 0, -1, -1, -1]


def test_a_group_is_right_for_each_of_its_species() -> None:
    answers = make_answers([0] * 4 + [1] * 4 + [2, 2], [0, 1] * 2 + [0, 1] * 2 + [2, 0])
    groups = find_groups(find_pairs(answers, 3), make_taxonomy([0, 0, 0]))
    found = measure_groups(groups, answers, 3)
    assert found["top1"].value == pytest.approx(0.9)
    assert found["share"].value == pytest.approx(0.9)
    odd = measure_groups(groups, make_answers([-1, -1, 0], [0, -1, -1]), 3)
    assert odd["top1"].value == 0
    assert measure_groups([], answers, 3)["top1"].value == pytest.approx(0.5)


def test_rows_name_the_pairs_with_most_mistakes() -> None:
    answers = make_answers([0, 0, 1, 1, 2], [1, 0, 0, 0, 0], image_id=["a", "b", "c", "d", "e"])
    rows = pair_rows(find_pairs(answers, 3), make_taxonomy([0, 0, 0]), 1)
    assert rows == [
        {"a": "s0", "b": "s1", "num": 3, "a_as_b": 1, "b_as_a": 2, "share_a_as_b": 0.5, "share_b_as_a": 1.0}
        | {"num_occurrences": 3, "image_a": "a", "image_b": "d"}
    ]
    assert len(pair_rows(find_pairs(answers, 3), make_taxonomy([0, 0, 0]), 9)) == 2
