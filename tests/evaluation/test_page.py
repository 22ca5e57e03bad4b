import re
from typing import Any

import pytest

from aitax_ray.evaluation.page import MAX_ROWS, MAX_SHOWN, render_model_card, render_page
from tests.evaluation.worlds import make_metrics, make_world

ABOUT: dict[str, Any] = {
    "arch": "net", "head": "linear", "embedding_size": 512, "created": "2026-01-02T03:04:05", "version": "1",
    "doi": "10.15468/dl.abc", "citation": "Cite <me>", "num_train": 1234, "licenses": {"CC-BY-4.0": 5, "": 2},
    "curves": "", "min_group": 30,
}  # fmt: skip
SUSPECT = {
    "image_id": "s1", "labelled": "Rana <script>", "looks_like": "Rana $b$", "confidence": 0.97, "label_score": 0.01,
    "occurrence": "https://www.gbif.org/occurrence/7", "url": "", "creator": "", "license": "",
}  # fmt: skip


def render(world: Any, **changes: Any) -> str:
    metrics = make_metrics(world, **changes)
    pictures = {pair[side] for pair in metrics["lookalikes"]["pairs"] for side in ("image_a", "image_b")}
    thumbnails = dict.fromkeys([*sorted(pictures), "s1"], "data:image/jpeg;base64,AAAA")
    credits = dict.fromkeys(thumbnails, "© A & B, CC-BY-4.0")
    return render_page(
        metrics, world[1].species, [SUSPECT] if metrics["num_suspects"] else [], ABOUT, thumbnails, credits
    )


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]).split())


def test_the_page_holds_the_figures_the_pairs_with_credits_and_the_suspects() -> None:
    world = make_world(strength=2.0, num_unknown=60)
    metrics = make_metrics(world)
    page = render(world, num_suspects=1)
    text = text_of(page)
    assert f"{100 * metrics['top1']:.1f} %" in text
    assert f"{metrics['ece']:.3f}" in text
    assert "Nova una" in text
    assert all(row["name"] in text for row in world[1].species)
    pairs = metrics["lookalikes"]["pairs"]
    assert len(pairs) > 3
    assert page.count('alt="A photograph of') == 2 * min(len(pairs), MAX_SHOWN) + 1
    assert "© A &amp; B, CC-BY-4.0" in page
    assert "Rana &lt;script&gt;" in page
    assert "<script" not in page
    assert "https://www.gbif.org/occurrence/7" in page
    assert "Cite &lt;me&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|https://)', page)  # it needs no other file


@pytest.mark.parametrize(
    ("num_classes", "num_val", "num_test", "strength"),
    [(6, 0, 1, 4.0), (2, 40, 40, 4.0), (6, 240, 240, 60.0), (6, 240, 240, -60.0)],
)
def test_odd_worlds_have_a_page_without_nonsense(
    num_classes: int, num_val: int, num_test: int, strength: float
) -> None:
    text = text_of(render(make_world(num_classes, num_val, num_test, strength)))
    assert not re.search(r"\b(nan|None|inf|null|undefined)\b", text)
    if num_test == 1:
        assert "5 species without a test photograph" in text
        assert "No group is large enough" in text
    if strength == 60:
        assert "No species was taken for another one" in text


def test_many_species_do_not_make_a_page_that_no_browser_opens() -> None:
    world = make_world(num_classes=2000, num_val=0, num_test=4000, strength=8.0)
    page = render(world)
    assert page.count("<tr>") < MAX_ROWS + 200
    assert f"{2000 - MAX_ROWS:,} easier species are not listed" in text_of(page)
    assert len(page) < 3_000_000


def test_what_changed_is_shown() -> None:
    difference = {"before": 0.9, "after": 0.8, "value": -0.1, "low": -0.2, "high": -0.02, "p_worse": 0.01}
    row = {"species_key": "K1", "name": "Genus0 species1", "before": 1.0, "after": 0.25, "num": 8}
    changes = {
        "against": "v1", "num_photographs": 50, "num_occurrences": 40, "top1": difference, "macro_top1": difference,
        "is_significantly_worse": True, "species": [row],
    }  # fmt: skip
    text = text_of(render(make_world(num_val=40, num_test=40), changes=changes))
    assert "Compared with v1 on 50 photographs of 40 occurrences" in text
    assert "-10.0 -20.0 to -2.0" in text
    assert "Genus0 species1 8 100 % 25 %" in text


def test_the_model_card_has_its_sections_and_figures() -> None:
    metrics = make_metrics(make_world())
    card = render_model_card(metrics, ABOUT)
    headings = re.findall(r"^## (.+)$", card, re.M)
    assert headings[:3] == ["Model details", "Intended use", "Factors"]
    assert f"| top1 | {100 * metrics['top1']:.1f} % |" in card or "| top1 | 100 % |" in card
    assert "https://doi.org/10.15468/dl.abc" in card
    assert not re.search(r"\b(nan|None|null)\b", card)
