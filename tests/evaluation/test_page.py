import copy
import fnmatch
import functools
import html
import math
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pytest

from aitax_ray.engine.documents import PRIVATE
from aitax_ray.evaluation import page
from aitax_ray.evaluation.page import MAX_GROUPS, MAX_ROWS, MAX_SHOWN, list_shown, render_model_card, render_page
from aitax_ray.evaluation.summary import with_interval
from tests.evaluation.page_example import Page, make_page
from tests.evaluation.worlds import make_metrics, make_world

NASTY = "Rana <script>alert(1)</script> & $x$ | *'co'*"
EXAMPLE = functools.cache(make_page)


class Texts(HTMLParser):
    """The page's tags with their attributes, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.text = " ".join(self.text.replace("\xa0", " ").split())

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style":
            self.text += data + " "

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def example() -> Page:
    return copy.deepcopy(EXAMPLE())


@functools.cache
def example_page() -> Texts:
    return Texts(render_page(*EXAMPLE()))


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw_plots", lambda *_: {})


def find_paths(part: Any, path: tuple[Any, ...] = (), depth: int = 3) -> Iterator[tuple[Any, ...]]:
    """The paths of all mappings' entries, of lists those of the first row."""
    entries = part.items() if isinstance(part, dict) else enumerate(part[:1]) if isinstance(part, list) else ()
    for name, inner in entries:
        if isinstance(part, dict):
            yield (*path, name)
        if depth:
            yield from find_paths(inner, (*path, name), depth - isinstance(part, dict))


def test_the_page_shows_the_figures_with_their_intervals() -> None:
    metrics, text = EXAMPLE()[0], example_page().text
    shown = [*metrics["photographs"].values(), metrics["rejection"]["unknown_rejected"], metrics["acceptance"]["share"]]
    shown = [figure for figure in shown if figure is not metrics["photographs"]["macro_top5"]]
    for figure in shown:
        assert with_interval(figure).replace(" (", " ").rstrip(")") in text.replace(" (", " ").replace(")", "")
    for row in metrics["groups"]["country"]:
        assert f"{100 * row['top1']['value']:.1f} %" in text


def test_the_page_answers_what_a_manager_asks_first() -> None:
    text = example_page().text
    places = [text.index(question) for question in ("Is it good?", "When can it be believed?", "What to do next?")]
    assert sorted(places) == places
    assert places[-1] < text.index("How often is it right?")


def test_the_templates_read_nothing_that_nobody_writes(monkeypatch: pytest.MonkeyPatch, without_plots: None) -> None:
    missing = set[str]()

    class Noting(jinja2.ChainableUndefined):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            missing.add(str(self._undefined_name))

    monkeypatch.setattr(jinja2, "ChainableUndefined", Noting)
    monkeypatch.setattr(page, "_environment", page._environment.__wrapped__)
    metrics, species, suspects, about, thumbnails, credits = example()
    render_page(metrics, species, suspects, about, thumbnails, credits)
    render_model_card(metrics, about)
    # Only what the example has on purpose not: plots, another test set, a group's number under its other name.
    assert missing <= {"reliability", "risk", "tail", "test_set", "num", "low", "high"}, missing


def test_the_page_stands_alone_and_needs_no_script() -> None:
    found = example_page()
    assert not found.of("script")
    assert not found.of("link")
    assert all(str(image["src"]).startswith("data:image/") for image in found.of("img"))
    assert all(re.match(r"https://|#", str(link["href"])) for link in found.of("a"))


def test_the_page_is_accessible() -> None:
    found = example_page()
    assert found.of("html") == [{"lang": "en"}]
    assert all(image.get("alt") for image in found.of("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in found.of("th"))
    assert all(picture.get("aria-hidden") or picture.get("aria-label") for picture in found.of("svg"))
    headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    anchors = {attributes.get("id") for _, attributes in found.tags}
    assert {str(link["href"])[1:] for link in found.of("a") if str(link["href"]).startswith("#")} <= anchors


def test_the_public_part_has_no_photograph_and_no_link_to_one() -> None:
    metrics, species, suspects, about, thumbnails, credits = EXAMPLE()
    page = render_page(metrics, species, suspects, about | {"curves": ""}, thumbnails, credits)
    found = Texts(PRIVATE.sub(b"", page.encode()).decode())
    assert found.of("img")
    assert all(str(image["src"]).startswith("data:image/png;") for image in found.of("img"))
    assert not {link["href"] for link in found.of("a")} & {credit["references"] for credit in credits.values()}
    assert "Ana Martínez" not in found.text
    assert "How it was measured" in found.text


def test_every_photograph_that_is_listed_is_shown_with_author_and_licence() -> None:
    metrics, _, suspects, _, thumbnails, credits = EXAMPLE()
    listed = list_shown(metrics, suspects)
    assert listed
    assert set(thumbnails) == listed
    found = example_page()
    sources = [image["src"] for image in found.of("img")]
    assert all(source in sources for source in thumbnails.values())
    links = {link["href"] for link in found.of("a")}
    assert {credit["references"] for credit in credits.values()} <= links
    assert "https://creativecommons.org/licenses/by-nc/4.0/" in links
    assert "Ana Martínez" in found.text
    assert "author not stated, CC0-1.0" in found.text.replace(" ,", ",")


def test_a_pair_that_is_shown_as_worst_is_not_shown_again() -> None:
    metrics, _, suspects, _, _, _ = example()
    pair = {"a": "A", "b": "B", "a_as_b": 2, "b_as_a": 0, "image_a": "1", "image_b": "2"}
    metrics |= {"worst": [], "lookalikes": {"pairs": [pair, pair | {"a_as_b": 1, "image_a": "3"}]}}
    assert list_shown(metrics, []) == {"1", "2"}
    metrics["worst"] = [{"name": "B", "taken_for": "A", "image": "7", "image_taken_for": "8"}]
    assert list_shown(metrics, suspects[:1]) == {"7", "8", "s0"}


@pytest.mark.usefixtures("without_plots")
def test_any_part_may_be_null_or_missing() -> None:
    metrics, species, suspects, about, thumbnails, credits = example()
    paths = list(find_paths(metrics))
    assert len(paths) > 150
    keys = {"name", "rank", "a", "b", "a_as_b", "b_as_a", "taken_for", "species"}  # of rows, which must have them
    wrong = []
    for path in paths:
        if path[-1] in keys and len(path) > 1 and path[0] != "counts":
            continue
        holder: Any = metrics
        for name in path[:-1]:
            holder = holder[name]
        kept = dict(holder)
        for is_deleted in (False, True):
            holder[path[-1]] = None
            if is_deleted:
                del holder[path[-1]]
            text = render_page(metrics, species, suspects, about, {}, {}) + render_model_card(metrics, about)
            if re.search(r"\b(None|nan|Undefined)\b", text):
                wrong.append(path)
            holder.update(kept)
    assert wrong == []
    for name in about:
        for less in ({**about, name: None}, {key: about[key] for key in about if key != name}):
            text = Texts(render_page(metrics, species, suspects, less, thumbnails, credits)).text
            assert not re.search(r"\b(None|nan|Undefined)\b", text + render_model_card(metrics, less)), name


def test_nothing_at_all_is_a_page_that_claims_nothing() -> None:
    text = Texts(render_page({}, [], [], {}, {}, {})).text
    assert "Nobody knows yet" in text
    assert not re.search(
        r"\d %", text.split("How it was measured")[0].replace("95 % intervals", "").replace("80 %", "")
    )
    assert "Nobody knows yet" in render_model_card({}, {})


@pytest.mark.usefixtures("without_plots")
def test_what_is_not_finite_is_not_shown_as_a_figure() -> None:
    metrics, species, suspects, about, _, credits = example()
    for path in find_paths(metrics):
        holder: Any = metrics
        for name in path[:-1]:
            holder = holder[name]
        if isinstance(holder[path[-1]], float):
            holder[path[-1]] = math.nan
    text = render_page(metrics, species, suspects, about, {}, credits) + render_model_card(metrics, about)
    assert not re.search(r"(?i)\bnan\b", text)


def test_one_species_with_one_photograph_is_a_page() -> None:
    one = {"value": 1.0, "low": None, "high": None}
    row = {
        "name": "Rana alba", "num_train_images": 1, "num_images": 1, "top1": 1.0, "precision": 1.0, "f1": 1.0,
        "most_often_taken_for": "", "taken_for_share": None, "acceptance_threshold": None,
        "acceptance_reason": "too few photographs",
    }  # fmt: skip
    metrics = {
        "counts": {"species": 1, "test": 1, "test_occurrences": 1, "val": 0, "species_without_test": 0},
        "photographs": dict.fromkeys(("top1", "top5", "macro_top1", "macro_f1"), one),
        "calibration": {"bins": [[1.0, 1.0, 1]], "bins_before": [[1.0, 1.0, 1]], "trust": "Not calibrated."},
        "rejection": {"score": "max_probability", "threshold": None, "risk_coverage": [[1.0, 0.0]]},
    }
    text = Texts(render_page(metrics, [row], [], {}, {}, {})).text
    assert "no figure here says how good it is" in text
    assert "No test photograph was taken for another species." in text
    assert "Nothing is rejected" in text


@pytest.mark.parametrize(
    ("num_classes", "num_val", "num_test", "strength"),
    [(6, 0, 1, 4.0), (2, 40, 40, 4.0), (6, 240, 240, 60.0), (6, 240, 240, -60.0)],
)
def test_odd_worlds_have_pages_without_nonsense(num_classes: int, num_val: int, num_test: int, strength: float) -> None:
    world = make_world(num_classes, num_val, num_test, strength)
    metrics = make_metrics(world)
    text = Texts(render_page(metrics, world[1].species, [], {}, {}, {})).text + render_model_card(metrics, {})
    assert not re.search(r"\b(nan|None|inf|null|undefined)\b", text)
    if num_test == 1:
        assert "5 of its 6 species have no test photograph" in text
        assert "No two groups have enough test photographs" in text
    if strength == 60:
        assert "No test photograph was taken for another species." in text
    if strength == -60:
        assert "no better than guessing" in text


def test_the_page_says_how_many_species_held_out_the_rejection_is_measured_on(without_plots: None) -> None:
    metrics, *rest = example()
    metrics["rejection"] |= {"unknown_species": ["Rana nova", "Rana alta"], "num_unknown_species": 1}
    measured_on = r"Of [\d,]+ photographs of 1 of them, which the score was not chosen with, .* are rejected"
    assert re.search(measured_on, Texts(render_page(metrics, *rest)).text)
    metrics["rejection"]["num_unknown_species"] = 2
    assert re.search(r"photographs of such species .* are rejected", Texts(render_page(metrics, *rest)).text)


def test_long_lists_are_bounded_and_the_page_says_how_much_is_left_out(without_plots: None) -> None:
    metrics, species, suspects, about, thumbnails, credits = example()
    many = [species[0] | {"name": f"Species {place}", "num_images": 3, "top1": 0.5} for place in range(5000)]
    metrics["untested"] = [f"Untested {place}" for place in range(4000)]
    metrics["groups"]["publisher"] = metrics["groups"]["country"] * 20
    metrics["changes"]["species"] *= 100
    metrics["lookalikes"]["groups"] = [{"species": [f"Twin {place}" for place in range(50)]}] * 700
    metrics["rejection"]["unknown_species"] = [f"Unknown {place}" for place in range(60)]
    about["licenses"] = {f"licence {place}": 1 for place in range(90)}
    source = render_page(metrics, many, suspects * 200, about, thumbnails, credits)
    text = Texts(source).text
    assert len(re.findall(r">Species \d+<", source)) == MAX_ROWS
    assert f"per_species.parquet has the other {5000 - MAX_ROWS:,}." in text
    assert f"{4000 - MAX_ROWS:,} more, see metrics.json" in text
    assert re.search(r"And \d+ more groups", text)
    assert "45 more" in text  # unknown species
    assert "And 75 more licences." in text
    assert [text.count(f"{what} ") for what in ("licence 14", "licence 15")] == [1, 0]
    assert (text.count("Twin 14"), text.count("Twin 15")) == (MAX_GROUPS, 0)
    assert "The most doubtful 9 are here" in text
    assert source.count("Looks like") == MAX_SHOWN
    assert len(source) < 2_000_000


def test_names_are_text_in_the_page_and_in_the_card() -> None:
    metrics, species, suspects, about, thumbnails, credits = example()
    species = [row | {"name": NASTY, "most_often_taken_for": NASTY} for row in species]
    metrics["worst"] = [row | {"name": NASTY, "taken_for": NASTY} for row in metrics["worst"]]
    metrics["lookalikes"]["groups"] = [{"species": [NASTY, NASTY], "genus": NASTY}]
    metrics["untested"] = metrics["rejection"]["unknown_species"] = [NASTY]
    metrics["groups"] = {NASTY: [row | {"name": NASTY} for row in metrics["groups"]["country"]]}
    metrics["changes"]["against"] = NASTY
    suspects = [row | {"labelled": NASTY, "looks_like": NASTY, "occurrence": "javascript:alert(1)"} for row in suspects]
    nasty_credit = {"creator": NASTY, "license": NASTY, "references": "javascript:alert(1)"}
    about |= {"arch": NASTY, "citation": NASTY, "caveats": [NASTY], "licenses": {NASTY: 1}, "doi": '10.1/"><script>'}
    source = render_page(metrics, species, suspects, about, thumbnails, dict.fromkeys(credits, nasty_credit))
    found = Texts(source)
    assert not found.of("script")
    assert "javascript" not in "".join(str(attributes.get("href")) for _, attributes in found.tags)
    assert html.escape(NASTY, quote=False) in source.replace("&#39;", "'")
    card = render_model_card(metrics, about)
    assert not re.search(r"(?<!\\)<(?!https://doi)", card)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {4}


def test_a_single_mistake_is_not_denied(without_plots: None) -> None:
    metrics, species, _, about, _, _ = example()
    pair = metrics["lookalikes"]["pairs"][0] | {"a_as_b": 1, "b_as_a": 0}
    metrics |= {"worst": [], "lookalikes": {"num_pairs": 1, "pairs": [pair], "groups": []}}
    text = Texts(render_page(metrics, species, [], about, {}, {})).text
    assert "No test photograph was taken" not in text
    assert "In all, 1 pair of species is taken for each other" in text


def test_without_advice_other_answers_are_no_list(without_plots: None) -> None:
    metrics, species, _, about, _, _ = example()
    metrics |= {"num_suspects": 0, "untested": []}
    metrics["counts"] |= {"species_without_test": 0, "species_held_out": 2}
    metrics["lookalikes"]["groups"] = []
    text = render_page(metrics, species, [], about, {}, {})
    assert "What to do next?" not in text
    assert "<ul>" not in text.partition('id="right"')[0]


def test_the_doi_in_a_citation_is_a_link(without_plots: None) -> None:
    about = {"doi": "10.1/x", "citation": "GBIF <b> https://doi.org/10.1/x"}
    links = [link["href"] for link in Texts(render_page({}, [], [], about, {}, {})).of("a")]
    assert links.count("https://doi.org/10.1/x") == 1


def test_another_test_set_is_named() -> None:
    metrics, species, _, about, _, _ = example()
    about["test_set"] = "the folder garden"
    text = Texts(render_page(metrics, species, [], about, {}, {})).text
    assert "from the folder garden" in text
    assert "that it was not trained with" not in text
    assert "The engine does not know these folders: Nova una" in text
    assert "on purpose:" not in text
    assert "from the folder garden" in render_model_card(metrics, about)


def test_the_model_card_has_the_sections_of_mitchell_et_al() -> None:
    metrics, _, _, about, _, _ = EXAMPLE()
    card = render_model_card(metrics, about)
    assert re.findall("^## (.*)$", card, re.MULTILINE) == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip
    top1 = metrics["photographs"]["top1"]
    expected = f"| top-1 | {100 * top1['value']:.1f} % | {100 * top1['low']:.1f} to {100 * top1['high']:.1f} % |"
    assert expected in card.splitlines()
    assert "\n\n\n" not in card


def test_the_templates_are_part_of_the_package() -> None:
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["aitax_ray"]
    for name in ("page.html", "model_card.md.j2"):
        assert resources.files("aitax_ray.evaluation").joinpath(name).is_file()
        assert any(fnmatch.fnmatch(f"evaluation/{name}", pattern) for pattern in patterns)
