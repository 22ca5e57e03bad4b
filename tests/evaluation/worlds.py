"""Makes sides with real decisions and figures, for tests of what is written about them."""

from typing import Any

import numpy as np

from aitax_ray.evaluation.answering import Side
from aitax_ray.evaluation.answers import Taxonomy
from aitax_ray.evaluation.decide import Decided, decide
from aitax_ray.evaluation.measure import Measured, measure
from aitax_ray.evaluation.neighbors import Neighbors
from aitax_ray.evaluation.questions import Photographs
from aitax_ray.evaluation.settings import EvaluateSettings

SETTINGS = EvaluateSettings(root="root")


def make_taxonomy_of(num_classes: int) -> Taxonomy:
    """Two species per genus, two genera per family; the last species has neither."""
    place = np.arange(num_classes)
    is_last = (place == num_classes - 1) & (num_classes > 2)
    genus = np.where(is_last, -1, place // 2).astype(np.int32)
    family = np.where(is_last, -1, place // 4).astype(np.int32)
    return Taxonomy(
        keys=[f"K{n}" for n in place],
        names=[f"Genus{n // 2} species{n}" for n in place],
        genus=genus,
        family=family,
        genera=[f"Genus{n}" for n in range(genus.max() + 1)],
        families=[f"Family{n}" for n in range(family.max() + 1)],
    )


def make_side(target: np.ndarray, num_classes: int, strength: float, seed: int = 0, near: float = 0.0) -> Side:
    """Photographs, two per occurrence, whose logits are noise plus `strength` for the right class.

    The nearest training photograph is of the right species with the probability `near`.
    """
    chance = np.random.default_rng(seed)
    target = np.asarray(target, np.int64)
    num = len(target)
    logits = chance.normal(0, 1, (num, num_classes)).astype(np.float32)
    known = np.flatnonzero(target >= 0)
    logits[known, target[known]] += strength
    nearest = np.where((target >= 0) & (chance.random(num) < near), target, chance.integers(0, num_classes, num))
    first = 10_000 * seed
    photographs = Photographs(
        image_id=np.array([f"{first + n:040x}" for n in range(num)], dtype="U40"),
        occurrence=np.arange(first, first + num) // 2,
        target=target,
        unit=np.eye(num, dtype=np.float16),
        length=np.ones(num, np.float32),
        head=lambda embedding: (
            (embedding @ logits).astype(np.float32) if num else np.zeros((0, num_classes), np.float32)
        ),
        num_classes=num_classes,
    )
    similarity = np.where(target >= 0, 0.9, 0.5) + chance.normal(0, 0.05, num)
    neighbors = Neighbors(nearest[:, None], similarity[:, None].astype(np.float32))
    return Side(photographs, neighbors, np.full(num_classes, 30))


def make_world(
    num_classes: int = 6,
    num_val: int = 240,
    num_test: int = 240,
    strength: float = 4.0,
    num_unknown: int = 0,
    num_added: int = 0,
) -> tuple[Decided, Measured, Side]:
    """Decide on validation photographs and measure on test photographs."""
    classes = np.arange(10_000) // 2 % num_classes
    val, test = (make_side(classes[:num], num_classes, strength, seed) for seed, num in ((0, num_val), (1, num_test)))
    unknown = [make_side(np.full(num_unknown, -1), num_classes, 0, seed) for seed in (2, 3)]
    first, second = unknown if num_unknown else (None, None)
    decided = decide(val, first, np.arange(num_unknown) % 7, make_taxonomy_of(num_classes), SETTINGS, num_added)
    columns = {"country": ["FR" if n % 3 else "DE" for n in range(num_test)], "year": [""] * num_test}
    return decided, measure(test, second, decided, columns, 30), test


def make_metrics(world: tuple[Decided, Measured, Side], **changes: Any) -> dict[str, Any]:
    """The content of metrics.json."""
    from aitax_ray.evaluation.evaluate import _assemble

    decided, measured, _ = world
    held_out = ["Nova una", "Nova duo"] if measured.metrics["rejection"]["num_unknown"] else []
    return _assemble(measured, decided, held_out, len(held_out) // 2) | changes
