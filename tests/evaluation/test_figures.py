import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from aitax_ray.evaluation.answers import Answers
from aitax_ray.evaluation.bootstrap import Interval, interval
from aitax_ray.evaluation.figures import (
    OTHERS,
    as_json,
    frequency,
    hits,
    macro_f1,
    macro_mean,
    measure,
    measure_frequencies,
    measure_groups,
    measure_ranks,
    measure_species,
)
from tests.evaluation.rows import make_answers, make_taxonomy

NUM_CLASSES = 7


def draw(num: int = 300, seed: int = 0) -> Answers:
    chance = np.random.default_rng(seed)
    target = chance.integers(0, NUM_CLASSES - 1, num)  # the last class has no photograph
    order = np.argsort(chance.random((num, NUM_CLASSES)) - 0.6 * np.eye(NUM_CLASSES)[target], axis=1)
    score = chance.uniform(0.4, 1, num).tolist()
    return make_answers(target.tolist(), order[:, :5].tolist(), score, occurrence=(np.arange(num) // 2).tolist())


def test_the_figures_are_those_of_scikit_learn() -> None:
    answers = draw()
    best, target = answers.top[:, 0], answers.target
    found = measure(answers)
    assert found["top1"].value == pytest.approx((best == target).mean())
    assert found["top5"].value == pytest.approx((answers.top == target[:, None]).any(axis=1).mean())
    labels = np.unique(target)
    recall = recall_score(target, best, labels=labels, average="macro")
    assert found["macro_top1"].value == pytest.approx(recall)
    f1 = f1_score(target, best, labels=labels, average="macro", zero_division=0)
    assert found["macro_f1"].value == pytest.approx(f1)
    for figure in (found["top1"], found["macro_top1"], found["macro_f1"]):
        assert figure.low < figure.value < figure.high  # type: ignore[operator]


def test_weights_count_as_repeated_rows() -> None:
    answers = draw(60)
    weights = np.random.default_rng(1).integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), weights)
    hit, best, target = hits(answers), answers.top[:, 0], answers.target
    once = np.ones(len(repeated))
    assert macro_mean(hit, target)(weights.astype(float)) == pytest.approx(
        macro_mean(hit[repeated], target[repeated])(once)
    )
    assert macro_f1(best, target)(weights.astype(float)) == pytest.approx(
        macro_f1(best[repeated], target[repeated])(once)
    )


def test_answers_that_are_no_class_count_as_wrong_for_no_species() -> None:
    target, best = np.array([0, 0, 1]), np.array([0, -1, 1])
    assert macro_f1(best, target)(np.ones(3)) == pytest.approx((2 / 3 + 1) / 2)


def test_questions_about_unknown_species_change_no_figure() -> None:
    some = draw(40)
    taxonomy, num_train = make_taxonomy([0] * NUM_CLASSES), np.arange(NUM_CLASSES) * 20
    both = make_answers(
        [*some.target, -1, -1],
        [*some.top.tolist(), [0] * 5, [-1] * 5],
        [*some.scores[:, 0], 0.9, 0.0],
        occurrence=[*some.occurrence, 90, 91],
        genus=[-1] * 42,
    )
    values = ["FR"] * 40
    assert not hits(both)[40:].any()
    assert measure(both) == measure(some)
    assert measure_ranks(both, taxonomy) == measure_ranks(some, taxonomy)
    assert measure_frequencies(both, num_train) == measure_frequencies(some, num_train)
    assert measure_species(both, taxonomy, num_train) == measure_species(some, taxonomy, num_train)
    assert measure_groups(both, [*values, "DE", ""]) == measure_groups(some, values)


def test_higher_ranks_are_measured_where_they_are_known() -> None:
    taxonomy = make_taxonomy(genus=[0, 0, 1, -1], family=[0, 0, 0, 0])
    answers = make_answers([0, 1, 2, 3], [1, 1, 0, 3], genus=[0, 0, 0, 1], family=[0, 0, 0, 0])
    found = measure_ranks(answers, taxonomy)
    assert found["species"]["top1"].value == 0.5
    assert (found["genus"]["num_photographs"], found["genus"]["num_taxa"]) == (3, 2)
    assert found["genus"]["top1"].value == pytest.approx(2 / 3)
    assert found["genus"]["macro_top1"].value == 0.5
    assert found["family"]["top1"].value == 1
    none = measure_ranks(answers, make_taxonomy([-1] * 4, [-1] * 4))
    figures = dict.fromkeys(("top1", "top5", "macro_top1", "macro_f1"), Interval(None))
    assert none["genus"] == {"num_photographs": 0, "num_taxa": 0, **figures}


def test_at_a_higher_rank_five_species_may_be_of_one_taxon() -> None:
    taxonomy = make_taxonomy(genus=[0, 0, 1, 1], family=[0, 0, 0, 0])
    top = [[0, 1], [2, 3], [1, 2]]
    answers = make_answers([2, 3, 3], top, genus=[0, 1, 0], family=[0, 0, 0])
    found = measure_ranks(answers, taxonomy)
    assert found["species"]["top5"].value == pytest.approx(1 / 3)
    assert found["genus"]["top5"].value == pytest.approx(2 / 3)
    f1 = f1_score([1, 1, 1], [0, 1, 0], labels=[1], average="macro")
    assert found["genus"]["macro_f1"].value == pytest.approx(f1)


def test_species_are_many_medium_or_few_by_their_training_photographs() -> None:
    num_train = np.array([101, 100, 20, 19, 0])
    assert frequency(num_train).tolist() == [0, 1, 1, 2, 2]
    found = measure_frequencies(make_answers([0, 1, 1, 2, 3], [0, 1, 0, 2, 0]), num_train)
    assert [(part["name"], part["num_species"], part["num_photographs"], part["num_tested"]) for part in found] == [
        ("many", 1, 1, 1),
        ("medium", 2, 3, 2),
        ("few", 2, 1, 1),
    ]
    assert [part["macro_top1"].value for part in found] == [1, 0.75, 0]


def test_small_groups_are_measured_together() -> None:
    answers = make_answers([0] * 6, [0, 0, 1, 1, 0, 1])
    found = measure_groups(answers, ["FR", "FR", "FR", "DE", "", "CH"], min_photographs=2)
    assert [(row["name"], row["num_values"], row["num_photographs"]) for row in found] == [("FR", 1, 3), (OTHERS, 3, 3)]
    assert found[0]["top1"].value == pytest.approx(2 / 3)
    assert found[1]["top1"].value == pytest.approx(1 / 3)
    assert measure_groups(answers.select(np.zeros(0, int)), []) == []


def test_the_largest_group_comes_first_and_unknown_values_are_a_group() -> None:
    answers = make_answers([0] * 6, [0] * 6)
    found = measure_groups(answers, ["FR", "DE", "DE", "", "", ""], min_photographs=1)
    assert [(row["name"], row["num_photographs"]) for row in found] == [("", 3), ("DE", 2), ("FR", 1)]


def test_each_species_has_its_own_figures() -> None:
    answers = draw()
    taxonomy = make_taxonomy([0] * NUM_CLASSES)
    rows = measure_species(answers, taxonomy, np.arange(NUM_CLASSES))
    best, target = answers.top[:, 0], answers.target
    labels = np.arange(NUM_CLASSES)
    for name, score in (("precision", precision_score), ("top1", recall_score), ("f1", f1_score)):
        expected = score(target, best, labels=labels, average=None, zero_division=0)
        assert [row[name] for row in rows[:-1]] == pytest.approx(expected[:-1].tolist()), name
    untested = rows[-1]
    assert (untested["num_images"], untested["top1"], untested["f1"], untested["taken_for_share"]) == (
        0,
        None,
        None,
        None,
    )
    assert [row["class_index"] for row in rows] == labels.tolist()
    for row in rows[:-1]:
        wrong = best[(target == row["class_index"]) & (best != target)]
        number = np.bincount(wrong, minlength=NUM_CLASSES)
        assert row["most_often_taken_for"] == taxonomy.names[number.argmax()]
        assert row["taken_for_share"] == pytest.approx(number.max() / row["num_images"])
        own = target == row["class_index"]
        assert row["top5"] == pytest.approx(hits(answers, 5)[own].mean())
        assert row["mean_score"] == pytest.approx(answers.target_score[own].mean())


def test_a_species_that_is_always_right_is_taken_for_nothing() -> None:
    rows = measure_species(make_answers([0, 1, 1], [0, 1, 0]), make_taxonomy([0, 0]), np.array([5, 5]))
    assert [row["most_often_taken_for"] for row in rows] == ["", "s0"]
    assert [row["most_often_mistaken_from"] for row in rows] == ["s1", ""]


@pytest.mark.parametrize("top", [[], [-1], [0]])
def test_a_test_side_of_one_photograph_or_none_is_no_error(top: list[int]) -> None:
    answers = make_answers([0] * len(top), np.array(top).reshape(-1, 1).tolist())
    found = measure(answers)
    assert found["top1"] == Interval(None if not top else float(top == [0]))
    assert json.loads(json.dumps(as_json({"a": [found]}), allow_nan=False))["a"][0]["top1"]["low"] is None


def test_a_perfect_macro_figure_is_known_no_better_than_by_its_rarest_species() -> None:
    """One species has a thousand photographs and one has a single one: as good as four photographs in all."""
    target = np.array([0] * 1000 + [1])
    found = interval(macro_mean(np.ones(1001), target), np.arange(1001))
    assert found == pytest.approx((1.0, 0.025 ** (1 / (4 / 1.001)), 1.0))
    even = interval(macro_mean(np.ones(100), np.arange(100) % 2), np.arange(100))
    assert even.low == pytest.approx(0.025 ** (1 / 100))
