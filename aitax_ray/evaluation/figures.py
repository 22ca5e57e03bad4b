"""The figures of an engine on photographs whose species is known: at each rank, per species, per group.

Questions about species that the engine does not know are left out: the rejection is measured on these. Macro figures
give each species the same weight. They are means over the species that have photographs here, and the number of those
species stands beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.bootstrap import Interval, Statistic, intervals, mean_of

# Species by their number of training photographs: more than 100, 20 to 100, fewer than 20, as in Liu et al. 2019,
# "Large-Scale Long-Tailed Recognition in an Open World", arXiv 1904.05160.
MANY, FEW = 100, 20
FREQUENCIES = ("many", "medium", "few")
MIN_PHOTOGRAPHS = 30  # a group with fewer is not measured alone
OTHERS = "others"


def hits(answers: Answers, top: int = 1) -> np.ndarray:
    """Whether the right species is among the best `top`, bool (N,)."""
    return np.asarray((answers.top[:, :top] == answers.target[:, None]).any(axis=1) & (answers.target >= 0))


def known(answers: Answers) -> Answers:
    """Keep the questions about species that the engine knows."""
    return answers.select(answers.target >= 0)


def measure(answers: Answers) -> dict[str, Interval]:
    """Measure the best and the best five species: top1, top5, macro_top1, macro_top5, macro_f1."""
    answers = known(answers)
    one, five, target = hits(answers), hits(answers, 5), answers.target
    return intervals(
        {
            "top1": mean_of(one),
            "top5": mean_of(five),
            "macro_top1": macro_mean(one, target),
            "macro_top5": macro_mean(five, target),
            "macro_f1": macro_f1(answers.top[:, 0], target),
        },
        answers.occurrence,
    )


def measure_ranks(answers: Answers, taxonomy: Taxonomy) -> dict[str, dict[str, Any]]:
    """Measure top1, top5, macro_top1 and macro_f1 at species, genus and family; with numbers of photographs and taxa.

    The answer at a higher rank is the taxon with the largest sum of scores. top5 asks whether the right one is among
    the taxa of the best five species. Photographs of a species whose genus or family is not known are left out there.
    """
    answers, found = known(answers), {}
    higher = (("genus", answers.genus, taxonomy.genus), ("family", answers.family, taxonomy.family))
    for rank, given, group in (("species", answers.top[:, 0], np.arange(len(taxonomy.keys))), *higher):
        target = group[answers.target]
        counted = target >= 0
        five = ((np.where(answers.top >= 0, group[answers.top], -1) == target[:, None]).any(axis=1))[counted]
        given, target = given[counted], target[counted]
        statistics = {
            "top1": mean_of(given == target),
            "top5": mean_of(five),
            "macro_top1": macro_mean(given == target, target),
            "macro_f1": macro_f1(given, target),
        }
        measured = intervals(statistics, answers.occurrence[counted])
        found[rank] = {"num_photographs": int(counted.sum()), "num_taxa": len(np.unique(target)), **measured}
    return found


def frequency(num_train: np.ndarray) -> np.ndarray:
    """The place in FREQUENCIES of classes with so many training photographs, (K,)."""
    return np.where(num_train > MANY, 0, np.where(num_train >= FEW, 1, 2))


def measure_frequencies(answers: Answers, num_train: np.ndarray) -> list[dict[str, Any]]:
    """Measure top1 and macro_top1 of species with many, a medium number of, and few training photographs."""
    answers, found = known(answers), []
    of_class = frequency(num_train)
    for place, name in enumerate(FREQUENCIES):
        part = answers.select(of_class[answers.target] == place)
        found.append({"name": name, "num_species": int((of_class == place).sum()), **_measure_part(part)})
    return found


def measure_groups(
    answers: Answers, values: Sequence[str], min_photographs: int = MIN_PHOTOGRAPHS
) -> list[dict[str, Any]]:
    """Measure the photographs of each value (a country, a publisher, ...), those with most photographs first.

    `values` (N,) has a text per answer, "" where it is not known. Values with fewer photographs than `min_photographs`
    are measured together, as OTHERS; `num_values` says how many these are.
    """
    names, code = np.unique(np.array(values, object)[answers.target >= 0].astype(str), return_inverse=True)
    answers = known(answers)
    number = np.bincount(code, minlength=len(names))
    large = [place for place in np.argsort(-number, kind="stable") if number[place] >= min_photographs]
    found = [
        {"name": str(names[place]), "num_values": 1, **_measure_part(answers.select(code == place))} for place in large
    ]
    small = ~np.isin(code, large)
    if small.any():
        num_values = len(names) - len(large)
        found.append({"name": OTHERS, "num_values": num_values, **_measure_part(answers.select(small))})
    return found


def _measure_part(part: Answers) -> dict[str, Any]:
    hit = hits(part)
    statistics = {"top1": mean_of(hit), "macro_top1": macro_mean(hit, part.target)}
    return {
        "num_photographs": len(part),
        "num_tested": len(np.unique(part.target)),
        **intervals(statistics, part.occurrence),
    }


def measure_species(answers: Answers, taxonomy: Taxonomy, num_train: np.ndarray) -> list[dict[str, Any]]:
    """Measure each species: a row per class, in the order of class_index. What is not defined is None.

    precision is the share of right answers among the answers with this name, recall (which is top1) among its
    photographs. `taken_for` names the species that its photographs are most often taken for, `taken_for_share` says how
    often; `mistaken_from` names the species whose photographs most often get its name wrongly.
    """
    num = len(taxonomy.keys)
    answers = known(answers)
    best, right, hit = answers.top[:, 0], answers.target, hits(answers)
    tested = np.bincount(right, minlength=num)
    named = np.bincount(best[best >= 0], minlength=num)
    true = np.bincount(right[hit], minlength=num)
    five = np.bincount(right[hits(answers, 5)], minlength=num)
    score = np.bincount(right, weights=answers.target_score, minlength=num)
    taken_for, taken_times = _most_frequent(right[~hit & (best >= 0)], best[~hit & (best >= 0)], num)
    mistaken_from, _ = _most_frequent(best[~hit & (best >= 0)], right[~hit & (best >= 0)], num)

    def share(part: Any, whole: Any) -> float | None:
        return float(part / whole) if whole else None

    return [
        {
            "species_key": taxonomy.keys[k],
            "class_index": k,
            "name": taxonomy.names[k],
            "num_train_images": int(num_train[k]),
            "num_images": int(tested[k]),
            "top1": share(true[k], tested[k]),
            "top5": share(five[k], tested[k]),
            "precision": share(true[k], named[k]),
            "f1": share(2 * true[k], tested[k] + named[k]) if tested[k] else None,
            "mean_score": share(score[k], tested[k]),
            "most_often_taken_for": taxonomy.names[taken_for[k]] if taken_for[k] >= 0 else "",
            "taken_for_share": share(taken_times[k], tested[k]) if taken_for[k] >= 0 else None,
            "most_often_mistaken_from": taxonomy.names[mistaken_from[k]] if mistaken_from[k] >= 0 else "",
        }
        for k in range(num)
    ]


class _Macro:
    """A mean over the classes in `target` (N,), all >= 0."""

    def __init__(self, target: np.ndarray, mean: Statistic) -> None:
        self._target, self._mean = target, mean

    def __call__(self, weights: np.ndarray) -> float | None:
        return self._mean(weights)

    def num_effective(self, occurrence: np.ndarray) -> float:
        """The number of equally important occurrences with the same variance: K ** 2 / sum(1 / occurrences of k)."""
        pairs = np.unique(np.stack([self._target, np.unique(occurrence, return_inverse=True)[1]]), axis=1)
        number = np.bincount(pairs[0].astype(np.int64))
        return float(np.count_nonzero(number) ** 2 / (1 / number[number > 0]).sum())


def macro_mean(values: np.ndarray, target: np.ndarray) -> Statistic:
    """The statistic that is the mean over the classes of the mean of a column; None without rows. `target` >= 0."""
    num = int(target.max(initial=-1)) + 1

    def mean(weights: np.ndarray) -> float | None:
        weight = np.bincount(target, weights, num)
        total = np.bincount(target, weights * values, num)
        present = weight > 0
        return float((total[present] / weight[present]).mean()) if present.any() else None

    return _Macro(target, mean)


def macro_f1(best: np.ndarray, target: np.ndarray) -> Statistic:
    """The statistic that is the mean of F1 over the classes that have rows; None without rows. `target` >= 0."""
    num = int(max(target.max(initial=-1), best.max(initial=-1))) + 1
    hit, is_named, given = best == target, best >= 0, np.maximum(best, 0)

    def mean(weights: np.ndarray) -> float | None:
        truth = np.bincount(target, weights, num)
        named = np.bincount(given, weights * is_named, num)
        true = np.bincount(target, weights * hit, num)
        present = truth > 0
        return float((2 * true[present] / (truth + named)[present]).mean()) if present.any() else None

    return _Macro(target, mean)


def _most_frequent(of: np.ndarray, what: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """For each class in `of` the class of `what` that stands beside it most often, and how often: both (num,).

    Of equals the first; -1 and 0 where there is none.
    """
    codes, number = np.unique(of.astype(np.int64) * num + what, return_counts=True)
    most, times = np.full(num, -1, np.int64), np.zeros(num, np.int64)
    order = np.lexsort((-codes, number))  # of several values for one place the last one stays
    most[codes[order] // num], times[codes[order] // num] = codes[order] % num, number[order]
    return most, times


def as_json(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Make a mapping fit for JSON: an Interval becomes {"value", "low", "high"}, also inside."""

    def convert(value: Any) -> Any:
        if isinstance(value, Interval):
            return value._asdict()
        if isinstance(value, Mapping):
            return {str(key): convert(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [convert(inner) for inner in value]
        return value

    return {name: convert(value) for name, value in figures.items()}
