import numpy as np

from aitax_ray.evaluation.figures import measure_species
from aitax_ray.evaluation.hardest import list_worst, sort_hardest
from aitax_ray.evaluation.lookalikes import find_pairs
from tests.evaluation.rows import make_answers, make_taxonomy


def test_few_photographs_do_not_make_a_species_hard() -> None:
    numbers = {"often wrong": (40, 0.25), "one, wrong": (1, 0.0), "good": (20, 0.9), "two, right": (2, 1.0)}
    rows = [{"name": name, "num_images": num, "top1": top1} for name, (num, top1) in numbers.items()]
    rows.append({"name": "untested", "num_images": 0, "top1": None})
    assert [row["name"] for row in sort_hardest(rows)] == ["often wrong", "one, wrong", "good", "two, right"]
    assert sort_hardest([]) == []


def test_the_worst_species_stand_beside_what_they_are_taken_for() -> None:
    # s0: 1 of 3 right; two were taken for s2, of which the surer one is shown. s1 and s2 are always right.
    answers = make_answers([0, 0, 0, 1, 2], [0, 2, 2, 1, 2], [0.9, 0.6, 0.8, 1.0, 0.7])
    rows = measure_species(answers, make_taxonomy([0, 0, 0]), np.array([5, 6, 7]))
    (worst,) = list_worst(rows, find_pairs(answers, 3))
    assert worst == {
        "name": "s0", "top1": 1 / 3, "num": 3, "num_train": 5, "taken_for": "s2", "taken_for_share": 2 / 3,
        "image": f"{2:040x}", "image_taken_for": f"{4:040x}",
    }  # fmt: skip


def test_the_second_species_of_a_pair_keeps_its_own_photograph() -> None:
    answers = make_answers([0, 1, 1], [0, 0, 1], [0.9, 0.6, 0.8])
    rows = measure_species(answers, make_taxonomy([0, 0]), np.array([5, 6]))
    (worst,) = list_worst(rows, find_pairs(answers, 2))
    assert (worst["name"], worst["image"], worst["image_taken_for"]) == ("s1", f"{1:040x}", f"{0:040x}")


def test_the_list_is_bounded_and_empty_for_a_perfect_engine() -> None:
    wrong = make_answers([0, 1, 2], [1, 2, 0])
    rows = measure_species(wrong, make_taxonomy([0, 0, 0]), np.ones(3))
    assert len(list_worst(rows, find_pairs(wrong, 3), limit=2)) == 2
    perfect = make_answers([0, 1], [0, 1])
    rows = measure_species(perfect, make_taxonomy([0, 0]), np.ones(2))
    assert list_worst(rows, find_pairs(perfect, 2)) == []
