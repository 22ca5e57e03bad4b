"""How well species are recognised that `index --add` added to an engine, and what this costs the trained ones."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from aitax_ray.evaluation.answering import Side, answer
from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.compare import compare
from aitax_ray.evaluation.decide import Decided
from aitax_ray.evaluation.figures import hits, measure
from aitax_ray.evaluation.neighbors import Neighbors
from aitax_ray.evaluation.questions import ask_alone


def measure_added(test: Side, alone: Answers, decided: Decided) -> dict[str, Any] | None:
    """Measure the answers to each test photograph alone: of added species, and of trained ones before and after.

    Before: the same engine without the added species, with the same decisions. None if no species was added.
    """
    num_trained = len(decided.taxonomy.keys) - decided.num_added
    if not decided.num_added:
        return None
    added, is_trained = alone.select(alone.target >= num_trained), (alone.target >= 0) & (alone.target < num_trained)
    trained, after = _without_added(test, np.flatnonzero(is_trained), num_trained), alone.select(is_trained)
    taxonomy = _first(decided.taxonomy, num_trained)
    decisions = decided.decisions
    before = answer(trained, ask_alone(trained.photographs), decisions.fusion, decisions.vote, taxonomy)
    found = compare(hits(before), hits(after), after.target.astype(str), after.occurrence)
    return {
        "species": decided.taxonomy.names[num_trained:],
        "num_tested": len(np.unique(added.target)),
        "num_photographs": len(added),
        "num_occurrences": len(np.unique(added.occurrence)),
        **measure(added),
        "trained": {
            "num_photographs": found.num_photographs,
            "num_taken_for_added": int((after.top[:, 0] >= num_trained).sum()),
            "top1": asdict(found.top1),
            "macro_top1": asdict(found.macro_top1),
        },
    }


def _without_added(side: Side, which: np.ndarray, num_trained: int) -> Side:
    """Some photographs as an engine with the first `num_trained` classes sees them."""
    photographs, neighbors = side.photographs.select(which), side.neighbors
    head = photographs.head
    photographs = replace(photographs, head=lambda embedding: head(embedding)[:, :num_trained], num_classes=num_trained)
    if neighbors is not None:
        neighbors = neighbors.select(which)
        is_added = neighbors.class_index >= num_trained
        order = np.argsort(is_added, axis=1, kind="stable")  # missing neighbours come last
        neighbors = Neighbors(
            np.take_along_axis(np.where(is_added, -1, neighbors.class_index), order, axis=1),
            np.take_along_axis(np.where(is_added, np.nan, neighbors.similarity), order, axis=1),
        )
    return Side(photographs, neighbors, side.num_train[:num_trained])


def _first(taxonomy: Taxonomy, num: int) -> Taxonomy:
    return replace(
        taxonomy,
        keys=taxonomy.keys[:num],
        names=taxonomy.names[:num],
        genus=taxonomy.genus[:num],
        family=taxonomy.family[:num],
    )
