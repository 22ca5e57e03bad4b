import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.dataset import reasons
from aitax_ray.dataset.card import render, shown, write_card
from aitax_ray.dataset.facts import gather
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split import split
from aitax_ray.engine.documents import PRIVATE
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row
from tests.dataset.test_facts import HOSTILE, colour, make_nothing, make_world
from tests.dataset.test_split import photos, store

SETTINGS = {"root": "/somewhere", "seed": 7, "val": 0.1, "groups": ["observer"], "split_file": None}
LOADED = {"src", "srcset", "poster", "data", "background", "action"}  # attributes whose target a browser loads


class Page(HTMLParser):
    """What is on a page: its elements with their attributes, its text, its links with what they enclose."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.links: dict[str, list[str]] = {}  # href -> sources of the pictures inside
        self.link = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag == "a":
            self.link = found["href"]
            self.links.setdefault(self.link, [])
        if tag == "img" and self.link:
            self.links[self.link].append(found["src"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.link = ""

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture(data_url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data_url.partition("base64,")[2]))).convert("RGB")


def looks_like(data_url: str, image_id: str) -> bool:
    seen = picture(data_url).getpixel((40, 40))
    assert isinstance(seen, tuple)
    return all(abs(a - b) < 12 for a, b in zip(seen, colour(image_id), strict=True))


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = make_world(str(tmp_path_factory.mktemp("world")))
    write_card(found, SETTINGS, Outcome())
    return found


@pytest.fixture(scope="module")
def page(ws: Workspace) -> Page:
    return Page(ws.storage.read_bytes(workspace.DATA_CARD).decode())


@pytest.fixture(scope="module")
def facts(ws: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = ws.storage.read_json(workspace.DATA_CARD_JSON)
    return found


def test_the_three_files_are_written(ws: Workspace, facts: dict[str, Any]) -> None:
    assert facts["species_summary"]["num"] == 2
    assert ws.storage.read_json(workspace.CROISSANT)["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert ws.storage.read_bytes(workspace.DATA_CARD).startswith(b"<!doctype html>")


def test_the_page_tells_every_number_of_the_funnel_and_every_reason(page: Page, facts: dict[str, Any]) -> None:
    text = " ".join(page.text)
    for step in facts["funnel"]:
        assert step["title"] in text
        for entry in step["left_out"] + step["added"]:
            assert entry["reason"].replace("_", " ") in text
            assert entry["meaning"] in text


def test_the_page_tells_the_sentences_and_the_origin(page: Page, facts: dict[str, Any]) -> None:
    text = " ".join(page.text)
    for sentence in facts["caveats"]:
        assert sentence in text
    for told in ("10.15468/dl.abc", "GBIF.org Occurrence Download", "archive.zip", "CC-BY-NC-4.0", '["observer"]'):
        assert told in text
    assert "/somewhere" not in text


def test_nothing_is_loaded_from_elsewhere(ws: Workspace, page: Page) -> None:
    assert [tag for tag, _ in page.elements if tag in ("script", "link", "iframe", "object", "embed", "base")] == []
    sources = [value for _, found in page.elements for name, value in found.items() if name in LOADED]
    assert sources
    assert [source[:40] for source in sources if not source.startswith("data:image/")] == []
    text = ws.storage.read_bytes(workspace.DATA_CARD).decode()
    assert "url(" not in text
    assert "@import" not in text


def test_the_public_part_has_no_photograph_no_link_to_one_and_no_person(ws: Workspace, facts: dict[str, Any]) -> None:
    text = PRIVATE.sub(b"", ws.storage.read_bytes(workspace.DATA_CARD)).decode()
    found = Page(text)
    assert all(source["src"].startswith("data:image/png;") for source in found.of("img"))
    assert not found.links.keys() & {image["page"] for image in shown(facts)}
    people = {example["identified_by"] for row in facts["labels"] for example in row["examples"]} - {"", HOSTILE}
    assert people
    assert [name for name in people if name in " ".join(found.text)] == []


def test_every_picture_says_what_it_is(page: Page) -> None:
    assert [found for found in page.of("img") if not found.get("alt", "").strip()] == []


def test_names_cannot_become_part_of_the_page(ws: Workspace, page: Page) -> None:
    assert HOSTILE not in ws.storage.read_bytes(workspace.DATA_CARD).decode()
    assert HOSTILE in " ".join(page.text)
    assert [found for _, found in page.elements if any(name.startswith("on") for name in found)] == []


def test_whatever_a_text_holds_it_stays_a_text(facts: dict[str, Any]) -> None:
    def page(text: str) -> Page:
        told = json.loads(json.dumps(facts))
        for name in ("hosts", "licenses", "countries", "bases", "datasets"):
            told[name]["top"] = [{"name": text, "num_images": 7}]
        for row in [*told["species"], *told["unused_species"]["species"], *shown(told)]:
            row["name"] = row["vernacular_name"] = text
        told["query"] |= dict.fromkeys(("citation", "source", "predicate", "doi"), text)
        told["settings"]["split"] = {text: text}
        return Page(render(told, {}))

    hostile = "\"><img src=x onerror=alert(1)> ' onload='alert(1) {{ 7 * 7 }} </style> <!-- &lt; $x_{"
    harmless, found = page("harmless"), page(hostile)
    assert [(tag, set(names)) for tag, names in found.elements] == [(t, set(names)) for t, names in harmless.elements]
    assert hostile in " ".join(found.text)


def test_only_web_pages_are_linked(page: Page) -> None:
    assert "https://doi.org/10.15468/dl.abc" in page.links
    assert [link for link in page.links if not link.startswith(("https://", "http://"))] == []


def test_examples_show_the_right_photographs_with_links_to_their_pages(page: Page, facts: dict[str, Any]) -> None:
    images = {image["image_id"]: image for image in shown(facts)}
    assert set(images) == {"a1", "a5", "a6", "b4"}
    for image_id, image in images.items():
        (source,) = page.links[image["page"]]
        assert looks_like(source, image_id)
        assert [other for other in images if other != image_id and looks_like(source, other)] == []


def test_what_is_no_picture_gives_no_thumbnail_and_the_page_says_so(tmp_path: Path) -> None:
    world = make_nothing(str(tmp_path))
    broken = {"w": b"", "x": b"no picture", "y": b"\xff\xd8\xff\xe0 broken"}
    images = [blank_row(schemas.IMAGES, image_id=name, jpeg=jpeg) for name, jpeg in broken.items()]
    world.storage.write_table(f"{workspace.IMAGES}/0.parquet", pa.Table.from_pylist(images, schemas.IMAGES))
    left = [blank_row(schemas.EXCLUDED, image_id=name, reason=reasons.CONFLICT, cluster="y") for name in broken]
    world.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(left, schemas.EXCLUDED))
    write_card(world, {}, Outcome())
    text = " ".join(Page(world.storage.read_bytes(workspace.DATA_CARD).decode()).text)
    assert text.count("no picture") == len(broken)


def test_where_nothing_is_known_there_is_a_page_all_the_same(tmp_path: Path) -> None:
    world = make_nothing(str(tmp_path))
    write_card(world, {}, Outcome())
    assert "1 photographs of 1 species" in " ".join(Page(world.storage.read_bytes(workspace.DATA_CARD).decode()).text)


def test_an_empty_split_has_a_page_too(tmp_path: Path) -> None:
    world = make_nothing(str(tmp_path))
    world.storage.write_table(workspace.SPLIT, schemas.SPLIT.empty_table())
    write_card(world, {}, Outcome())
    assert world.storage.exists(workspace.DATA_CARD)


def test_of_many_species_the_page_lists_both_ends(tmp_path: Path) -> None:
    world = make_nothing(str(tmp_path))
    rows = [
        blank_row(schemas.SPLIT, image_id=f"{n}-{m}", species_key=f"key{n:03}", split="train")
        for n in range(100)
        for m in range(100 - n)
    ]
    world.storage.write_table(workspace.SPLIT, pa.Table.from_pylist(rows, schemas.SPLIT))
    text = " ".join(Page(render(gather(world, {}, Outcome()), {})).text)
    assert "key000" in text
    assert "key099" in text
    assert "key050" not in text
    assert "data_card.json lists all 100" in text


def test_the_stage_leaves_the_tables_the_authors_and_the_card(tmp_path: Path) -> None:
    root = store(str(tmp_path), photos())
    report = split(SplitSettings(root=root))
    left = {file.path.removeprefix("split/") for file in Storage(root).files("split")}
    assert left == {
        "split.parquet", "excluded.parquet", "tested.parquet", "attribution.csv", "related_datasets.json",
        "data_card.html", "data_card.json", "croissant.json", "report.json",
    }  # fmt: skip
    found = Storage(root).read_json(workspace.DATA_CARD_JSON)
    assert found["sides"]["test"]["num_images"] == report.counts["test"]
    assert split(SplitSettings(root=root)) == report
