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


def titles(*texts: str) -> list[dict[str, Any]]:
    return [{"title": text} for text in texts] + [{"description": text} for text in texts]


def urls(*urls: str) -> list[dict[str, Any]]:
    return [{"url": url} for url in urls]


# For each rule, in the order of the table, what breaks it and what does not.
EXAMPLES: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        urls(
            "https://archive.org/download/x/page/n7.jpg",
            "http://IA800.us.archive.org:80/BookReader/BookReaderImages.php?zip=/1/items/x/x_jp2.zip",
            "https://www.biodiversitylibrary.org/pageimage/1",
            "https://babel.hathitrust.org/cgi/imgsrv/image?id=1",
            "https://gallica.bnf.fr/ark:/12148/btv1b8449691v/f1.highres",
        ),
        urls(
            "https://web.archive.org/web/2019im_/http://museum.example/frog.jpg",
            "https://archive.org/download/frogs-2019/frog1.jpg", "https://notarchive.org/BookReader/1.jpg",
            "https://a.org/?from=https://archive.org/BookReader/1", "https://archive.org/download/frogs/page_1.jpg",
        ),
    ),
    (
        titles("Ledger page", "Scan of the field notes.", "Fieldbook", "Field notes of 1931"),
        titles("Page 3", "Copied from the field notes of 1931", "Field notes: seen at 10 am", "Found in field book"),
    ),
    (urls("https://xeno-canto.org/sounds/uploaded/1-ffts.png"), urls("https://a.org/xeno-canto.org/")),
    (titles("Song sonogram", "Spectrogram of XC1"), titles("Turdus merula, singing", "Turdus merula with sonogram")),
    ([{"width": 100, "height": 75}, {"width": 16, "height": 127}], [{"width": 128, "height": 20}]),
    ([{"contrast": 2.9}, {"contrast": 0.0}], [{"contrast": 3.0}, {"contrast": None}]),
    (
        titles("Label", "photo of the label", "Étiquette", "Herbarium labels.", "Label data", "Specimen label"),
        titles(
            "Rosa canina, with label", "Rosa canina, with label data of 1931", "dorsal view, lateral view, label",
            "Habitus and labels", "Labellum", "labelled specimen",
        ),
    ),
    (
        titles("Index card", "Barcode"),
        titles("Cardamine", "barcoded leg", "Barcode: E00421509", "Herbarium sheet with barcode"),
    ),
    (
        titles("Drawing", "Pencil drawing of a beetle", "Botanical illustration", "Illustration by Ann"),
        titles(
            "Withdrawing", "Polyommatus icarus on a painting wall", "Painting in forest", "Sketch Mountain, Utah",
            "Drawing nectar from a thistle",
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "examples"), list(zip(RULES, EXAMPLES, strict=True)))
def test_each_rule_finds_what_it_is_for_and_nothing_else(rule: Any, examples: Any) -> None:
    broken, kept = examples
    assert reasons(*broken) == [rule.reason] * len(broken)
    assert reasons(*kept) == [""] * len(kept)


def test_what_is_not_known_breaks_no_rule() -> None:
    assert reasons(dict.fromkeys(PHOTO)) == [""]
