from typing import Any

import polars as pl
import pytest

from aitax_ray.dataset.rules import RULES, broken_rule

PHOTO = {"url": "https://a.org/1.jpg", "title": "", "description": "", "contrast": 40.0, "width": 400, "height": 300}


TYPES = {"contrast": pl.Float32, "width": pl.Int32, "height": pl.Int32} | dict.fromkeys(
    ("url", "title", "description"), pl.String
)


def reasons(*rows: dict[str, Any]) -> list[str]:
    frame = pl.DataFrame([PHOTO | row for row in rows], schema_overrides=TYPES)
    return frame.select(broken_rule(128).alias("reason"))["reason"].to_list()


# For each rule, in the order of the table, what breaks it and what does not.
EXAMPLES: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        [
            {"url": "https://archive.org/download/x/page_1.jpg"},
            {"url": "http://IA800.us.archive.org:80/1.jpg"},
            {"url": "https://www.biodiversitylibrary.org/pageimage/1"},
        ],
        [{"url": "https://notarchive.org/1.jpg"}, {"url": "https://a.org/?from=https://archive.org/1"}],
    ),
    (
        [{"title": "Ledger page"}, {"description": "Scan of the field notes."}, {"title": "Fieldbook"}],
        [{"title": "Page 3"}, {"description": "Copied from the field notes of 1931 at Kew"}],
    ),
    ([{"url": "https://xeno-canto.org/sounds/uploaded/1-ffts.png"}], [{"url": "https://a.org/xeno-canto.org"}]),
    ([{"title": "Song sonogram"}, {"title": "Spectrogram of XC1"}], [{"title": "Turdus merula, singing"}]),
    ([{"width": 100, "height": 75}, {"width": 16, "height": 127}], [{"width": 128, "height": 20}]),
    ([{"contrast": 2.9}, {"contrast": 0.0}], [{"contrast": 3.0}, {"contrast": None}]),
    (
        [
            {"title": "Label"},
            {"title": "photo of the label"},
            {"title": "Étiquette"},
            {"description": "Herbarium labels."},
        ],
        [{"title": "Rosa canina, with label data of 1931"}, {"title": "Labellum"}, {"title": "labelled specimen"}],
    ),
    ([{"title": "Index card"}, {"description": "Barcode"}], [{"title": "Cardamine"}, {"title": "barcoded leg"}]),
    (
        [{"title": "Drawing"}, {"title": "Pencil drawing of a beetle"}, {"title": "Botanical illustration"}],
        [
            {"title": "Withdrawing"},
            {"title": "Polyommatus icarus on a painting wall"},
        ],
    ),
]


@pytest.mark.parametrize(("rule", "examples"), list(zip(RULES, EXAMPLES, strict=True)))
def test_each_rule_finds_what_it_is_for_and_nothing_else(rule: Any, examples: Any) -> None:
    broken, kept = examples
    assert reasons(*broken) == [rule.reason] * len(broken)
    assert reasons(*kept) == [""] * len(kept)


def test_what_is_not_known_breaks_no_rule() -> None:
    assert reasons(dict.fromkeys(PHOTO)) == [""]
