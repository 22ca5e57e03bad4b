"""serving.page: texts, languages, and what the templates show."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.documents import REPORT, read_figures
from aitax_ray.serving.citation import list_references, to_bibtex
from aitax_ray.serving.identifier import Identification, Identifier
from aitax_ray.serving.judgement import Judgement
from aitax_ray.serving.page import BY_ACCURACY, FOLDER, SCRIPT_TEXTS, Page, negotiate, read_texts
from tests.engines import COLOURS, write_small_engine

RED = Image.new("RGB", (40, 30), COLOURS["11"])


@pytest.fixture(scope="module")
def identifier(tmp_path_factory: pytest.TempPathFactory) -> Identifier:
    return Identifier(open_engine(str(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))))


@pytest.fixture
def page(identifier: Identifier) -> Page:
    return Page(identifier.engine.info, identifier.engine.taxa, "en")


def shown(page: Page, identification: Identification, **judgement: Any) -> str:
    judged: Judgement = replace(identification.judgement, **judgement)
    return page.answer_part(page.answer(replace(identification, judgement=judged), [RED]))


def test_every_language_has_the_same_texts_with_the_same_values() -> None:
    texts = read_texts()
    assert {"en", "fr", "de", "es"} <= texts.keys()
    for language, own in texts.items():
        assert own.keys() == texts["en"].keys(), language
        for name, text in own.items():
            assert text.strip(), (language, name)
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", texts["en"][name])), (language, name)


def test_every_text_is_used_and_every_used_text_exists() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.html"))
    used = set(re.findall(r"say\([\"'](\w+)[\"']", code)) | set(SCRIPT_TEXTS) | {"name", "failed", "license_unknown"}
    used |= {f"figure_{name}" for name in ("top1", "macro_top1", "top5")} | {"by_name", "by_accuracy"}
    used |= {f"document_{name}{end}" for name in ("data_card", "report", "model_card") for end in ("", "_hint")}
    used |= {"deleted", "not_deleted", "can_reject", "cannot_reject"}
    used |= {"group_genus", "group_family", "almost_certain", "very_likely", "likely", "possible", "unlikely"}
    assert used - {"group_", "figure_", "document_", "by_"} == read_texts()["en"].keys()
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    assert set(re.findall(r"texts\.(\w+)", script)) == set(SCRIPT_TEXTS)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("fr", "fr"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("pt-BR, es;q=0.5, fr;q=0.4", "es"),
        ("fr;q=0, de;q=0.1", "de"),
        ("zh, *;q=0.5", "en"),
        ("fr;q=rubbish, de", "de"),
        (";;,,q=1", "en"),
    ],
)
def test_the_language_is_the_first_one_the_visitor_reads(header: str, language: str) -> None:
    assert negotiate(header) == language


def test_an_answer_shows_each_species_with_its_score_names_and_credited_photographs(
    identifier: Identifier, page: Page
) -> None:
    html = shown(page, identifier.identify([RED]))
    assert "<i>Ruber primus</i>" in html
    assert "the ruber one" in html
    assert re.search(r"(9\d|&gt; 99)% – (almost certain|very likely)", html)
    sources = re.findall(r'<li><figure>\s*<a href="([^"]*)"[^>]*><img src="\./images/([0-9a-f]{40})"', html)
    assert len(sources) == len(set(sources)) >= 3
    assert all(link.startswith("https://") for link, _ in sources)
    assert html.count("© ") == len(sources)
    assert 'href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>' in html
    assert html.count('src="data:image/jpeg;base64,') == 1
    assert "http" not in "".join(re.findall(r' src="([^"]*)"', html))  # nothing is loaded from elsewhere


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        ({"is_known": True, "is_accepted": True, "precision": 0.95}, "This is quite certain."),
        (
            {"is_known": True, "is_accepted": False, "rank": "genus", "name": "Rana", "score": 0.914},
            "a species of the genus Rana.</strong> The species itself is not certain. For the group the probability "
            "is 91%.",
        ),
        ({"is_known": True, "is_accepted": False, "rank": "family", "name": "Ranidae"}, "of the family Ranidae."),
        ({"is_known": True, "is_accepted": False, "rank": "species"}, "This is quite certain."),
        ({"is_known": True, "is_accepted": False, "rank": ""}, '<p class="banner">Compare with the photographs below.'),
        ({"is_known": False}, "No species was recognised."),
        ({"is_known": True, "candidates": ("11", "22", "33"), "promise": 0.9}, "among the first 3 with"),
        ({"is_known": True, "lookalikes": ("Rana x", "Rana y")}, "<i>Rana x, Rana y</i>"),
    ],
)
def test_it_says_in_words_how_far_it_can_be_believed(
    identifier: Identifier, page: Page, judgement: dict[str, Any], words: str
) -> None:
    html = shown(page, identifier.identify([RED]), **judgement)
    assert words in html
    assert ("<details" in html) == (not judgement["is_known"])  # then the species are shown on demand


def test_an_answer_with_low_scores_is_not_certain(identifier: Identifier, page: Page) -> None:
    found = identifier.identify([RED])
    weak = replace(found, candidates=(replace(found.candidates[0], score=0.3),))
    assert "This is not certain." in shown(page, weak, is_known=True, is_accepted=False, rank="")


def test_text_of_the_data_is_no_html(identifier: Identifier, page: Page) -> None:
    found = identifier.identify([RED])
    image = found.candidates[0].illustrations[0]
    image = image._replace(creator="<script>alert(1)</script>", references="javascript:x", occurrence="", url="")
    candidate = replace(found.candidates[0], illustrations=(image,))
    html = shown(page, replace(found, candidates=(candidate,)), is_known=True, lookalikes=("<b>",))
    assert "<script>" not in html
    assert "<b>" not in html
    assert "javascript:" not in html


def test_the_page_says_what_the_engine_knows_and_how_to_cite_it(page: Page) -> None:
    html = page.ask()
    assert 'href="./about?lang=en#cite"' in html
    assert "Knows 3 species from 12 photographs. Of test photographs, 100% were named right." in html
    assert 'href="https://doi.org/10.15468/dl.colour"' in html
    assert '<html lang="en">' in html
    assert 'lang="fr"' in html


def test_species_are_found_by_any_name_and_come_in_pages(
    identifier: Identifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.serving.page.ROWS", 2)
    page = Page(identifier.engine.info, identifier.engine.taxa, "de")

    def names(html: str) -> list[str]:
        return re.findall(r"<tr><th[^>]*>.*?<i>([^<]*)</i>", html)

    first = page.species("", 1)
    assert names(first) == ["Caeruleus tertius", "Ruber primus"]
    assert "3 von 3 Arten" in first
    assert "page=2" in first
    assert names(page.species("", 2)) == ["Viridis secundus"] == names(page.species("", 99))
    assert names(page.species(" RUBER ", 1)) == ["Ruber primus"] == names(page.species("the ruber", 1))
    assert names(page.species("coloridae", 1)) == ["Caeruleus tertius", "Ruber primus"]
    assert names(page.species("<zzz>", 1)) == []
    assert 'value="&lt;zzz&gt;"' in page.species("<zzz>", 1)


@pytest.fixture
def measured(identifier: Identifier) -> Page:
    return Page(identifier.engine.info, identifier.engine.taxa, "en", read_figures(identifier.engine))


def test_each_species_has_its_own_accuracy_and_the_hardest_ones_can_come_first(measured: Page) -> None:
    html = measured.species("", 1)
    rows = dict(zip(re.findall(r"<tr><th[^>]*>.*?<i>([^<]*)</i>", html), html.split("<tr><th")[1:], strict=True))
    assert "75% <small>of 4</small>" in rows["Ruber primus"]
    assert ">10</td>" in rows["Ruber primus"]
    assert "not measured" in rows["Viridis secundus"]
    assert ">20</td>" in rows["Viridis secundus"]
    assert ">–</td>" in rows["Caeruleus tertius"]  # a species that `evaluate` has not seen
    hardest = re.findall(r"<tr><th[^>]*>.*?<i>([^<]*)</i>", measured.species("", 1, BY_ACCURACY))
    assert hardest[0] == "Ruber primus"
    assert 'aria-current="true">Hardest first' in measured.species("", 1, BY_ACCURACY)


def test_the_page_about_the_engine_says_what_it_knows_and_does_not(measured: Page, identifier: Identifier) -> None:
    info = identifier.engine.info
    html = measured.about([REPORT], list_references(info), to_bibtex(info))
    text = " ".join(re.sub(r"<[^>]+>", "", html).split())
    assert "1 species were tested" in text
    assert "2 species were not tested" in text
    assert "1 species were learned from fewer than 20 photographs" in text
    assert "It always names one of its species" in text
    assert "Photographs of eggs are rare." in text
    assert re.findall(r'<li><a href="\./([a-z-]+)" hreflang', html) == ["evaluation"]
    assert "@misc{engine_colours_1," in text


@pytest.mark.parametrize(
    ("language", "number", "percent"),
    [("en", "12,345", "> 99%"), ("de", "12.345", "> 99\u00a0%"), ("fr", "12\u202f345", "> 99\u00a0%")],
)
def test_numbers_are_written_as_in_the_language(
    identifier: Identifier, language: str, number: str, percent: str
) -> None:
    page = Page(identifier.engine.info, identifier.engine.taxa, language)
    assert page._number(12345) == number
    assert page._percent(0.9999) == percent
    assert page._percent(1).startswith("100")
    assert page._percent(0.001).startswith("< 1")
    assert page._percent(0).startswith("0")


@pytest.mark.parametrize(
    ("license_", "shown"),
    [
        ("http://creativecommons.org/licenses/by-nc/4.0/", "CC BY-NC 4.0"),
        ("CC BY-SA", "CC BY-SA"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("all rights reserved", "all rights reserved"),
        ("", "licence unknown"),
        ("ask the author", "ask the author"),
    ],
)
def test_licences_have_short_names(identifier: Identifier, page: Page, license_: str, shown: str) -> None:
    image = identifier.identify([RED]).candidates[0].illustrations[0]._replace(license=license_)
    assert page._image(image)["license"] == shown


def test_an_unknown_language_is_english(identifier: Identifier) -> None:
    assert '<html lang="en">' in Page(identifier.engine.info, identifier.engine.taxa, "../../etc").ask()


def test_the_files_are_in_the_package() -> None:
    root = Path(__file__).parents[2]
    data = (root / "pyproject.toml").read_text(encoding="utf-8")
    for path in FOLDER.rglob("*.*"):
        relative = path.relative_to(root / "aitax_ray")
        pattern = f"{relative.parent.as_posix()}/*{path.suffix}"
        assert f'"{pattern}"' in data, f"pyproject.toml does not name {pattern}"
