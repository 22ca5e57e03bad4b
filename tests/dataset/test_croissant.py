import hashlib
import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitax_ray import schemas, workspace
from aitax_ray.dataset.card import write_card
from aitax_ray.dataset.croissant import File, croissant
from aitax_ray.dataset.facts import gather
from aitax_ray.workspace import Outcome, Workspace
from tests.dataset.test_facts import make_nothing, make_world

# https://docs.mlcommons.org/croissant/docs/croissant-spec.html, "Dataset-level information": required.
REQUIRED = {
    "@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished",
}  # fmt: skip


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = make_world(str(tmp_path_factory.mktemp("world")))
    found.storage.write_bytes(workspace.ATTRIBUTION, b"image_id,creator\n")
    write_card(found, {}, Outcome())
    return found


@pytest.fixture(scope="module")
def described(ws: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = ws.storage.read_json(workspace.CROISSANT)
    return found


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for name, value in node.items():
            if name not in ("@context", "data"):
                yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def record_set(described: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (found for found in described["recordSet"] if found["@id"] == name)
    return dict(found)


def test_what_is_required_is_there(described: dict[str, Any]) -> None:
    assert described.keys() >= REQUIRED
    assert described["@type"] == "sc:Dataset"
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert described["name"] == "Photographs of 2 species"
    assert described["url"] == "https://doi.org/10.15468/dl.abc"
    assert described["citeAs"] == "GBIF.org Occurrence Download"
    assert described["license"] == [
        "https://creativecommons.org/licenses/by/4.0/",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ]
    assert len(described["datePublished"]) == len("2026-01-01")


def test_every_word_is_in_the_context(described: dict[str, Any]) -> None:
    context = described["@context"]
    schema_org = {
        "name", "description", "license", "url", "sameAs", "creator", "datePublished", "version", "distribution",
        "contentUrl", "contentSize", "encodingFormat", "sha256",
    }  # fmt: skip
    words = {word for node in nodes(described) for word in node if not word.startswith("@")}
    assert words - schema_org <= context.keys()
    assert context["@vocab"] == "https://schema.org/"


def test_files_have_their_form_place_and_digest(ws: Workspace, described: dict[str, Any]) -> None:
    files = {entry["@id"]: entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"}
    assert {path: entry["encodingFormat"] for path, entry in files.items()} == {
        workspace.SPLIT: "application/x-parquet",
        workspace.EXCLUDED: "application/x-parquet",
        workspace.ATTRIBUTION: "text/csv",
        workspace.TAXA: "application/x-parquet",
    }
    for path, entry in files.items():
        assert posixpath.normpath(f"split/{entry['contentUrl']}") == path
        content = ws.storage.read_bytes(path)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["contentSize"] == f"{len(content)} B"


def test_the_photographs_are_a_set_of_files(described: dict[str, Any]) -> None:
    (files,) = (entry for entry in described["distribution"] if entry["@type"] == "cr:FileSet")
    assert (files["includes"], files["encodingFormat"]) == ("../images/*.parquet", "application/x-parquet")


def test_ids_are_unique_and_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    made = [node["@id"] for node in nodes(described) if "@type" in node and "@id" in node]
    assert len(made) == len(set(made))
    referred = [node["@id"] for node in nodes(described) if node.keys() == {"@id"}]
    assert referred
    assert set(referred) <= set(made)


def test_fields_have_the_columns_and_types_of_the_tables(described: dict[str, Any]) -> None:
    used = {field["name"]: field for field in record_set(described, "photographs")["field"]}
    assert list(used) == schemas.SPLIT.names
    assert used["class_index"]["dataType"] == "sc:Integer"
    assert used["species_key"]["dataType"] == "sc:Text"
    assert used["weight"]["dataType"] == "sc:Float"
    for name, field in used.items():
        assert field["source"] == {"fileObject": {"@id": workspace.SPLIT}, "extract": {"column": name}}
    (jpeg,) = (field for field in record_set(described, "images")["field"] if field["name"] == "jpeg")
    assert jpeg["dataType"] == "sc:ImageObject"
    assert jpeg["source"] == {"fileSet": {"@id": "image-files"}, "extract": {"column": "jpeg"}}


def test_the_sides_are_an_enumeration_that_photographs_refer_to(described: dict[str, Any]) -> None:
    splits = record_set(described, "splits")
    assert (splits["dataType"], splits["key"]) == ("cr:Split", {"@id": "splits/name"})
    assert {row["splits/name"]: row["splits/url"] for row in splits["data"]} == {
        "train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit",
    }  # fmt: skip
    (side,) = (field for field in record_set(described, "photographs")["field"] if field["name"] == "split")
    assert side["references"] == {"field": {"@id": "splits/name"}}


def test_labels_and_photographs_are_joined_by_image_id(described: dict[str, Any]) -> None:
    joined = {field["name"]: field for field in record_set(described, "labelled_images")["field"]}
    assert list(joined) == ["image_id", "species_key", "class_index", "split", "jpeg"]
    assert joined["image_id"]["references"] == {"field": {"@id": "images/image_id"}}
    assert joined["jpeg"]["source"] == {"field": {"@id": "images/jpeg"}}
    assert record_set(described, "images")["key"] == {"@id": "images/image_id"}


def test_below_the_root_paths_need_not_climb(ws: Workspace) -> None:
    described = croissant(gather(ws, {}, Outcome()), {workspace.SPLIT: File("00", 1)}, folder="")
    file, images = described["distribution"]
    assert (file["contentUrl"], images["includes"]) == ("split/split.parquet", "images/*.parquet")


def test_what_is_not_there_is_not_described(tmp_path: Path) -> None:
    world = make_nothing(str(tmp_path))
    write_card(world, {}, Outcome())
    described = world.storage.read_json(workspace.CROISSANT)
    assert [entry["@id"] for entry in described["distribution"]] == [
        workspace.SPLIT, workspace.EXCLUDED, "image-files",
    ]  # fmt: skip
    assert "species" not in [found["@id"] for found in described["recordSet"]]
    assert described["url"].startswith("https://")
    assert "citeAs" not in described
    assert not any(value == "" for value in described.values())
    test_ids_are_unique_and_every_reference_leads_somewhere(described)


def test_groups_on_several_sides_are_not_denied(ws: Workspace) -> None:
    facts = gather(ws, {}, Outcome())
    assert "on one side" in croissant(facts, {})["description"]
    assert "on one side" not in croissant(facts | {"num_groups_parted": 1}, {})["description"]


def test_hostile_names_stay_json(described: dict[str, Any]) -> None:
    assert json.loads(json.dumps(described)) == described
