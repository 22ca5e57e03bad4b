"""Look-alikes: the species that are taken for each other, and groups of species that the engine cannot separate."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.bootstrap import Interval, intervals
from aitax_ray.evaluation.thresholds import share

MIN_SHARE = 0.3
MIN_OCCURRENCES = 3


@dataclass(frozen=True)
class Pairs:
    """P pairs of species `a` < `b` that are taken for each other, most mistakes first. All arrays are (P,)."""

    a: np.ndarray
    """class_index."""
    b: np.ndarray
    a_as_b: np.ndarray
    """int64: photographs of `a` that were taken for `b`."""
    b_as_a: np.ndarray
    share_a_as_b: np.ndarray
    """float64: `a_as_b` as a share of all photographs of `a`; 0 if there are none."""
    share_b_as_a: np.ndarray
    num_occurrences: np.ndarray
    """int64: occurrences with such mistakes."""
    image_a: np.ndarray
    """str: a photograph of `a`, if possible one that was taken for `b` with a high score; "" if there is none."""
    image_b: np.ndarray


class LookalikeGroup(BaseModel):
    """Species that validation photographs cannot separate."""

    model_config = ConfigDict(frozen=True)

    species: tuple[int, ...]
    """class_index, sorted."""
    name: str
    genus: str | None
    """The genus, if all are of one: an answer may name it instead of the group."""


def find_pairs(answers: Answers, num_classes: int) -> Pairs:
    """Find all pairs of species that were taken for each other."""
    num = np.bincount(answers.target[answers.target >= 0], minlength=num_classes)
    best = answers.top[:, 0].astype(np.int64)
    wrong = np.flatnonzero((answers.target >= 0) & (best >= 0) & (best != answers.target))
    target, best = answers.target[wrong], best[wrong]
    codes, pair = np.unique(np.minimum(target, best) * num_classes + np.maximum(target, best), return_inverse=True)
    a, b = codes // num_classes, codes % num_classes
    is_a = target == a[pair]
    a_as_b, b_as_a = (np.bincount(pair[side], minlength=len(codes)) for side in (is_a, ~is_a))
    each = np.unique(np.stack([pair, answers.occurrence[wrong]]), axis=1)[0]
    # The photograph with the highest score is written last and stays: of the species, then of the mistakes.
    by_score = np.argsort(answers.scores[:, 0], kind="stable")
    of_species = np.full(num_classes, "", answers.image_id.dtype)
    known = by_score[answers.target[by_score] >= 0]
    of_species[answers.target[known]] = answers.image_id[known]
    image_a, image_b = of_species[a], of_species[b]
    by_score = np.argsort(answers.scores[wrong, 0], kind="stable")
    for image, side in ((image_a, is_a), (image_b, ~is_a)):
        rows = by_score[side[by_score]]
        image[pair[rows]] = answers.image_id[wrong[rows]]
    columns = {
        "a": a,
        "b": b,
        "a_as_b": a_as_b,
        "b_as_a": b_as_a,
        "share_a_as_b": a_as_b / np.maximum(num[a], 1),
        "share_b_as_a": b_as_a / np.maximum(num[b], 1),
        "num_occurrences": np.bincount(each, minlength=len(codes)),
        "image_a": image_a,
        "image_b": image_b,
    }
    order = np.argsort(-(a_as_b + b_as_a), kind="stable")
    return Pairs(**{name: column[order] for name, column in columns.items()})


def find_groups(pairs: Pairs, taxonomy: Taxonomy, min_share: float = MIN_SHARE) -> list[LookalikeGroup]:
    """Find the groups of species that cannot be separated: those linked by pairs, directly or through others.

    A pair is a link if the mean of both shares is at least `min_share`, with mistakes in at least MIN_OCCURRENCES
    occurrences. The mean is the share of mistakes if both species were equally frequent: who guesses has 0.5.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = len(taxonomy.keys)
    is_link = (pairs.share_a_as_b + pairs.share_b_as_a) / 2 >= min_share
    is_link &= pairs.num_occurrences >= MIN_OCCURRENCES
    links = coo_array((np.ones(is_link.sum(), bool), (pairs.a[is_link], pairs.b[is_link])), shape=(num, num))
    _, group = connected_components(links, directed=False)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [_group(each, taxonomy) for each in members if len(each) > 1]


def _group(species: np.ndarray, taxonomy: Taxonomy) -> LookalikeGroup:
    genera = set(taxonomy.genus[species].tolist())
    genus = taxonomy.genera[genera.pop()] if len(genera) == 1 and -1 not in genera else None
    name = " / ".join(taxonomy.names[place] for place in species)
    return LookalikeGroup(species=tuple(species.tolist()), name=name, genus=genus)


def group_of(groups: list[LookalikeGroup], num_classes: int) -> np.ndarray:
    """The place of the group of each class, int32 (K,); -1 for a class without a group."""
    places = np.full(num_classes, -1, np.int32)
    for place, group in enumerate(groups):
        places[list(group.species)] = place
    return places


def measure_groups(groups: list[LookalikeGroup], answers: Answers, num_classes: int) -> dict[str, Interval]:
    """Measure answers that name the group instead of the species: the share of these, and the share that is right."""
    place = np.append(group_of(groups, num_classes), -1)  # -1, no class, has no group
    best = answers.top[:, 0]
    is_same = (place[best] >= 0) & (place[best] == place[answers.target])
    is_right = (best >= 0) & ((best == answers.target) | is_same)
    return intervals({"share": share(place[best] >= 0), "top1": share(is_right)}, answers.occurrence)


def pair_rows(pairs: Pairs, taxonomy: Taxonomy, limit: int) -> list[dict[str, Any]]:
    """Name the pairs with most mistakes, at most `limit`. `num` counts the mistakes both ways."""
    columns = {field.name: getattr(pairs, field.name)[:limit].tolist() for field in fields(pairs)}
    columns |= {side: [taxonomy.names[place] for place in columns[side]] for side in ("a", "b")}
    columns["num"] = (pairs.a_as_b + pairs.b_as_a)[:limit].tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
