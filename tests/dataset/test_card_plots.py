import base64
import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aitax_ray.dataset import card_plots
from aitax_ray.dataset.facts import MEGAPIXEL_EDGES, SIDE_EDGES

LONG = "a-host-with-a-very-long-name." * 5 + "example"
STRANGE = ["$x_{", "\\frac", "蝴蝶", "تجربة", "\x00\n\t", "🦋", "", LONG, "%s{0}", "<b>"]


def pixels(data_url: str) -> np.ndarray:
    assert data_url.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2]))).convert("RGB"))


def is_blank(data_url: str) -> bool:
    return len(np.unique(pixels(data_url).reshape(-1, 3), axis=0)) < 3


def species(*counts: int) -> list[dict[str, Any]]:
    return [{"num_images": n, "train": n - n // 5, "val": n // 10, "test": n // 10} for n in counts]


def step(num: int, **left_out: int) -> dict[str, Any]:
    left = [{"reason": reason, "num": number} for reason, number in left_out.items()]
    return {"title": "photographs", "num": num, "left_out": left, "added": []}


def counts(*numbers: int, unknown: int = 0, others: int = 0, names: list[str] | None = None) -> dict[str, Any]:
    named = names or [f"name{n}" for n in range(len(numbers))]
    top = [{"name": name, "num_images": number} for name, number in zip(named, numbers, strict=True)]
    return {"top": top, "num_distinct": len(top) + bool(others), "num_others": others, "num_unknown": unknown}


def sizes(position: int, number: int) -> dict[str, Any]:
    edges = {"shorter_side_px": SIDE_EDGES, "megapixels": MEGAPIXEL_EDGES}
    return {
        name: {"edges": list(e), "counts": [number * (place == position) for place in range(len(e) + 1)]}
        for name, e in edges.items()
    }


def sides(*numbers: int) -> dict[str, dict[str, Any]]:
    names = ("num_images", "num_occurrences", "num_groups")
    return {side: dict.fromkeys(names, n) for side, n in zip(("train", "val", "test"), numbers, strict=True)}


# A plot, and data that should all give different pictures; the first is nothing at all.
PLOTS: dict[str, tuple[Callable[[Any], str], list[Any]]] = {
    "long_tail": (
        card_plots.long_tail,
        [[], species(1), species(20, 3), species(*(max(1, 90_000 // (n + 1)) for n in range(500)))],
    ),
    "funnel": (
        card_plots.funnel,
        [
            [step(0), step(0)],
            [step(10, lost=4), step(6)],
            [step(10, lost=2), step(8)],
            [step(100, **{f"reason_{n}": n + 1 for n in range(12)}), step(22)],
        ],
    ),
    "shares": (
        card_plots.shares,
        [
            counts(),
            counts(unknown=5),
            counts(5, 2),
            counts(5, 2, others=9, unknown=1),
            counts(*range(1, 11), names=STRANGE),
        ],
    ),
    "years": (
        card_plots.years,
        [[], [[2020, 1]], [[2019, 5], [2020, 1]], [[1758, 1], [1950, 3], [2024, 9]], [[1, 1], [9999, 1]]],
    ),
    "world": (
        card_plots.world,
        [
            [],
            [[52, 13, 1], [40, 10, 500]],
            [[-90, -180, 1], [89, 179, 9]],
            [[-90, 0, 3], [-89, 0, 1]],
            [[south, west, 1 + south % 7] for south in range(-60, 80, 5) for west in range(-180, 180, 5)],
        ],
    ),
    "sizes": (card_plots.sizes, [sizes(0, 0), sizes(0, 5), sizes(8, 5), sizes(12, 70_000)]),
    "split": (card_plots.split, [sides(0, 0, 0), sides(1, 0, 0), sides(8, 1, 1), sides(800_000, 3, 100_000)]),
}


@cache
def drawn(name: str) -> list[str]:
    plot, data = PLOTS[name]
    return [plot(found) for found in data]


@pytest.mark.parametrize("name", PLOTS)
def test_no_plot_is_blank_and_each_differs_with_its_data(name: str) -> None:
    assert not any(is_blank(picture) for picture in drawn(name))
    assert len(set(drawn(name))) == len(drawn(name))


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_of_one_width_and_those_without_data_take_little_room(name: str) -> None:
    shapes = [pixels(picture).shape for picture in drawn(name)]
    assert {width for _, width, _ in shapes} == {card_plots.WIDTH * card_plots.DPI}
    assert shapes[0][0] < card_plots.WIDTH * card_plots.DPI / 4
    assert max(height for height, *_ in shapes) < 3 * card_plots.WIDTH * card_plots.DPI


def test_a_few_strays_do_not_keep_the_rest_small() -> None:
    assert card_plots._middle([10, 11, 12, 150], [50, 50, 50, 1], (-180, 180)) == (7, 16)
    assert card_plots._middle([-90, 89], [1, 1], (-90, 90)) == (-90, 90)
