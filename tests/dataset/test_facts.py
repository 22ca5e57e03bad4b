import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.database import open_database
from aitax_ray.dataset import facts, reasons
from aitax_ray.dataset.facts import NEVER_STORED, NOT_REPORTED, STORED_EARLIER, gather
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row

HOSTILE = "<script>alert(1)</script>"
NAMES = {"a": "Papilio machaon", "b": HOSTILE, "c": "蝶 $x_", "d": "Vanessa io"}
USED = ("a1", "a2", "a3", "a4", "b1", "b2", "b3")
# Occurrence -> its side, photographs, date, country, latitude, longitude, uncertainty in m.
OCCURRENCES: dict[str, tuple[str, Sequence[str], str, str, float | None, float | None, float | None]] = {
    "1": ("train", ("a1", "a2"), "2020-05-03", "DE", 52.5, 13.4, 5.0),
    "2": ("val", ("a3",), "2019", "DE", 52.9, 13.9, None),
    "3": ("test", ("a4",), "2018/2020", "", 0.0, 0.0, 5.0),
    "4": ("train", ("b1", "b2"), "", "FR", None, None, None),
    "5": ("test", ("b3",), "2020-06-01/03", "CL", -33.2, -70.1, 20_000.0),
}
# Occurrence -> trust in its label, who identified it, status, remarks.
IDENTIFIED = {
    "1": ("machine", "BirdNET", "", ""),
    "2": ("verified", "Ann", "verified", "by its song " * 9),
    "3": ("verified", "Ann", "approved", ""),
    "4": ("machine", HOSTILE, "predicted", ""),
    "5": ("unknown", "", "", ""),
}
GBIF_IDS = {image: gbif_id for gbif_id, (_, images, *_) in OCCURRENCES.items() for image in images}
# image_id -> reason, detail, cluster. e1 is not in the manifest.
EXCLUDED = {
    "a5": (reasons.CONFLICT, f"{HOSTILE} | Papilio machaon", "a5"),
    "a6": (reasons.EXACT_DUPLICATE, "a1", "a1"),
    "b4": (reasons.CONFLICT, f"{HOSTILE} | Papilio machaon", "a5"),
    "c1": (reasons.TOO_FEW_IMAGES, "", ""),
    "e1": (reasons.NOT_IN_MANIFEST, "", ""),
}
FAILED = ("d1", "d2")
LICENSES = {"b1": "CC-BY-NC-4.0", "b2": "CC-BY-NC-4.0", "b3": "unknown"}
QUERY = {
    "source": "/somebody/at/home/archive.zip",
    "doi": "10.15468/dl.abc",
    "citation": "GBIF.org Occurrence Download",
    "predicate": {"type": "equals"},
    "dataset_citations": ["One", "Two"],
}


def colour(image_id: str) -> tuple[int, int, int]:
    """A colour of each photograph's own."""
    number = sorted([*USED, *EXCLUDED]).index(image_id)
    return 20 * number, 255 - 20 * number, (70 * number) % 256


def jpeg(image_id: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 512), colour(image_id)).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def make_world(root: str, *, outcomes: bool = True, ledger: bool = True) -> Workspace:
    """A root with thirteen URLs of four species, of which eleven are stored, one is left over, and seven are used."""
    ws = Workspace(root)

    def write(path: str, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist([blank_row(schema, **row) for row in rows], schema)
        ws.storage.write_table(path, table, plain=["jpeg"] if "jpeg" in schema.names else ())

    listed = [*USED, "a5", "a6", "b4", "c1", *FAILED]

    def manifest() -> Outcome:
        media = (
            {
                "image_id": image,
                "gbif_id": GBIF_IDS.get(image, f"9{image}"),
                "species_key": image[0],
                "url": f"https://user@{'one' if image[0] == 'a' else 'TWO'}.example:8080/{image}.jpg",
                "license_id": LICENSES.get(image, "CC-BY-4.0"),
                "references": "javascript:alert(1)" if image == "a5" else f"https://page.example/{image}",
            }
            for image in listed
        )
        write(f"{workspace.MEDIA}/0.parquet", schemas.MEDIA, media)
        names = ({"species_key": key, "name": name, "vernacular_name": name.upper()} for key, name in NAMES.items())
        write(workspace.TAXA, schemas.TAXA, names)
        told = (
            {
                "gbif_id": gbif_id,
                "species_key": images[0][0],
                "event_date": date,
                "country_code": country,
                "decimal_latitude": latitude,
                "decimal_longitude": longitude,
                "coordinate_uncertainty_m": uncertainty,
                "basis_of_record": "HUMAN_OBSERVATION",
                "identified_by": IDENTIFIED[gbif_id][1],
                "identification_status": IDENTIFIED[gbif_id][2],
                "identification_remarks": IDENTIFIED[gbif_id][3],
            }
            for gbif_id, (_, images, date, country, latitude, longitude, uncertainty) in OCCURRENCES.items()
        )
        write(workspace.OCCURRENCES, schemas.OCCURRENCES, told)
        dropped = [{"reason": "no_species"}] * 4 + [{"reason": "duplicate_url"}] * 3
        write(workspace.DROPPED, schemas.DROPPED, dropped)
        ws.storage.write_json(workspace.QUERY, QUERY)
        return Outcome(
            counts={"rows_read": 20, "kept": 13}, reasons={"no_species": 4, "duplicate_url": 3} if outcomes else {}
        )

    def download() -> Outcome:
        shards = {"0.parquet": [*USED], "1.parquet": [*EXCLUDED]}
        for shard, images in shards.items():
            stored = (
                {
                    "image_id": image,
                    "gbif_id": GBIF_IDS.get(image, ""),
                    "species_key": image[0],
                    "width": 100 if image == "a1" else 640,
                    "height": 60 if image == "a1" else 512,
                    "jpeg": jpeg(image),
                }
                for image in images
            )
            write(f"{workspace.IMAGES}/{shard}", schemas.IMAGES, stored)
        where = {image: shard for shard, images in shards.items() for image in images}
        fates = (
            {
                "image_id": image,
                "run": "1",
                "status": status,
                "reason": reason,
                "shard": where.get(image, "") if status == "ok" else "",
                "fetched_at": datetime(2026, 1, 1, tzinfo=UTC),
            }
            for image in listed
            for status, reason in (
                [("retried", "timeout"), ("failed", "not_found")] if image in FAILED else [("ok", "")]
            )
        )
        if ledger:
            write(f"{workspace.LEDGER}/0.parquet", schemas.LEDGER, fates)
        return Outcome(reasons={"not_found": 2} if outcomes else {})

    ws.run("manifest", StageSettings(root=root), (), manifest)
    ws.run("download", StageSettings(root=root), ("manifest",), download)
    split = [
        {
            "image_id": image,
            "gbif_id": GBIF_IDS[image],
            "species_key": image[0],
            "trust": IDENTIFIED[GBIF_IDS[image]][0],
            "class_index": "ab".index(image[0]),
            "split": OCCURRENCES[GBIF_IDS[image]][0],
            "group": GBIF_IDS[image],
        }
        for image in USED
    ]
    write(workspace.SPLIT, schemas.SPLIT, split)
    left = (
        {"image_id": i, "gbif_id": "", "species_key": i[0], "reason": reason, "detail": detail, "cluster": cluster}
        for i, (reason, detail, cluster) in EXCLUDED.items()
    )
    write(workspace.EXCLUDED, schemas.EXCLUDED, left)
    return ws


def make_nothing(root: str) -> Workspace:
    """A root whose one photograph has nothing known of it, nor anything upstream."""
    ws = Workspace(root)
    row = blank_row(schemas.SPLIT, image_id="x", split="train")
    ws.storage.write_table(workspace.SPLIT, pa.Table.from_pylist([row], schemas.SPLIT))
    ws.storage.write_table(workspace.EXCLUDED, schemas.EXCLUDED.empty_table())
    return ws


def add_up(funnel: list[dict[str, Any]]) -> bool:
    """Whether each step less what is left out, plus what is added, is the next."""

    def total(entries: list[dict[str, Any]]) -> int:
        return sum(entry["num"] for entry in entries)

    return all(
        step["num"] - total(step["left_out"]) + total(step["added"]) == after["num"] for step, after in pairwise(funnel)
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    ws = make_world(str(tmp_path_factory.mktemp("world")))
    return gather(ws, {"root": ws.root, "seed": 7, "split_file": "/at/home/mine.csv"}, Outcome(counts={"species": 2}))


def test_the_funnel_tells_every_step_and_adds_up(found: dict[str, Any]) -> None:
    assert [(step["step"], step["num"]) for step in found["funnel"]] == [
        ("rows_read", 20), ("urls", 13), ("stored", 12), ("used", 7),
    ]  # fmt: skip
    assert add_up(found["funnel"])


def test_every_reason_is_told_with_its_number_and_ours_with_their_meaning(found: dict[str, Any]) -> None:
    told = [{entry["reason"]: entry["num"] for entry in step["left_out"]} for step in found["funnel"]]
    assert told[:2] == [{"no_species": 4, "duplicate_url": 3}, {"not_found": 2}]
    assert told[2] == {
        reasons.CONFLICT: 2, reasons.EXACT_DUPLICATE: 1, reasons.TOO_FEW_IMAGES: 1, reasons.NOT_IN_MANIFEST: 1,
    }  # fmt: skip
    assert told[3] == {}
    assert {entry["meaning"] for entry in found["funnel"][2]["left_out"]} == {reasons.REASONS[r] for r in told[2]}
    assert [(entry["reason"], entry["num"]) for entry in found["funnel"][1]["added"]] == [(STORED_EARLIER, 1)]


def test_every_reason_of_the_closed_list_appears(tmp_path: Path) -> None:
    ws = make_nothing(str(tmp_path))
    rows = [
        blank_row(schemas.EXCLUDED, image_id=f"{reason}{number}", reason=reason)
        for position, reason in enumerate(reasons.REASONS)
        for number in range(position + 1)
    ]
    ws.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(rows, schemas.EXCLUDED))
    funnel = gather(ws, {}, Outcome())["funnel"]
    told = {entry["reason"]: entry["num"] for entry in funnel[2]["left_out"]}
    assert told == {reason: position + 1 for position, reason in enumerate(reasons.REASONS)}
    assert add_up(funnel)


def test_what_the_reports_do_not_tell_is_told_as_that(tmp_path: Path) -> None:
    ws = make_world(str(tmp_path), outcomes=False)
    funnel = gather(ws, {}, Outcome())["funnel"]
    assert add_up(funnel)
    assert {entry["reason"]: entry["num"] for entry in funnel[0]["left_out"]} == {"no_species": 4, "duplicate_url": 3}
    assert [(entry["reason"], entry["num"]) for entry in funnel[1]["left_out"]] == [(NOT_REPORTED, 2)]


def test_the_sides_and_the_species_have_their_numbers(found: dict[str, Any]) -> None:
    sides = {side: [row[f"num_{what}"] for what in ("images", "occurrences", "groups", "species")]
             for side, row in found["sides"].items()}  # fmt: skip
    assert sides == {"train": [4, 2, 2, 2], "val": [1, 1, 1, 1], "test": [2, 2, 2, 2]}
    assert [round(row["share"], 3) for row in found["sides"].values()] == [0.571, 0.143, 0.286]
    first, second = found["species"]
    assert first == {
        "species_key": "a", "name": "Papilio machaon", "vernacular_name": "PAPILIO MACHAON", "num_images": 4,
        "num_occurrences": 3, "train": 2, "val": 1, "test": 1,
    }  # fmt: skip
    assert (second["name"], second["num_images"], second["val"]) == (HOSTILE, 3, 0)
    summary = found["species_summary"]
    assert {name: summary[name] for name in ("num", "without_val", "without_test", "with_few_to_train")} == {
        "num": 2, "without_val": 1, "without_test": 0, "with_few_to_train": 2,
    }  # fmt: skip
    assert (summary["quantiles"]["least"], summary["quantiles"]["all"]) == (3, 4)
    assert summary["with_half_of_the_images"] == 1


def test_what_stands_in_a_column_is_counted_and_what_is_not_known_apart(found: dict[str, Any]) -> None:
    def told(name: str) -> tuple[dict[str, int], int]:
        return {row["name"]: row["num_images"] for row in found[name]["top"]}, found[name]["num_unknown"]

    assert told("hosts") == ({"one.example": 4, "two.example": 3}, 0)
    assert told("licenses") == ({"CC-BY-4.0": 4, "CC-BY-NC-4.0": 2}, 1)
    assert told("countries") == ({"DE": 3, "FR": 2, "CL": 1}, 1)
    assert told("bases") == ({"HUMAN_OBSERVATION": 7}, 0)
    assert told("datasets") == ({}, 7)
    assert found["licenses"]["num_open"] == 4


def test_labels_are_counted_per_trust_and_side_with_the_commonest_identifications(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    by_trust = {row["trust"]: row for row in found["labels"]}
    assert {trust: row["sides"] for trust, row in by_trust.items()} == {
        "verified": {"train": 0, "val": 1, "test": 1},
        "unknown": {"train": 0, "val": 0, "test": 1},
        "machine": {"train": 4, "val": 0, "test": 0},
    }
    examples = {trust: [list(row.values()) for row in rows["examples"]] for trust, rows in by_trust.items()}
    assert examples == {
        "verified": [["Ann", "approved", "", ""], ["Ann", "verified", ("by its song " * 9)[:80], ""]],
        "unknown": [["", "", "", ""]],
        "machine": [[HOSTILE, "predicted", "", ""], ["BirdNET", "", "", ""]],
    }
    monkeypatch.setattr(facts, "IDENTIFICATIONS", 1)
    assert [len(row["examples"]) for row in gather(make_world(str(tmp_path)), {}, Outcome())["labels"]] == [1, 1, 1]


def test_only_the_commonest_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    ws = make_nothing(str(tmp_path))
    images = [f"i{number}" for number in range(30)]
    rows = [blank_row(schemas.SPLIT, image_id=image, split="train") for image in images]
    media = [blank_row(schemas.MEDIA, image_id=image, url=f"http://{image}.example/") for image in images]
    ws.storage.write_table(workspace.SPLIT, pa.Table.from_pylist(rows, schemas.SPLIT))
    ws.storage.write_table(f"{workspace.MEDIA}/0.parquet", pa.Table.from_pylist(media, schemas.MEDIA))
    hosts = gather(ws, {}, Outcome())["hosts"]
    assert (hosts["num_distinct"], len(hosts["top"]), hosts["num_others"]) == (30, facts.SHOWN, 30 - facts.SHOWN)


def test_the_year_is_told_where_a_date_has_one(found: dict[str, Any]) -> None:
    assert found["years"] == {"counts": [[2019, 1], [2020, 3]], "num_several": 1, "num_unknown": 2}


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("2021", 2021), ("2021-05", 2021), ("2021-05-03T10:00:00Z", 2021), ("20210503", 2021), ("2007-03/05", 2007),
        ("2007-11-13/15", 2007), ("2007-11-13/2007-11-15", 2007), ("1850/1900", None), ("soon", None), ("", None),
        ("12345", None),
    ],
)  # fmt: skip
def test_dates_as_given_come_to_a_year_or_to_none(tmp_path: Path, date: str, year: int | None) -> None:
    ws = make_nothing(str(tmp_path))
    row = blank_row(schemas.OCCURRENCES, event_date=date)
    ws.storage.write_table(workspace.OCCURRENCES, pa.Table.from_pylist([row], schemas.OCCURRENCES))
    assert gather(ws, {}, Outcome())["years"]["counts"] == ([[year, 1]] if year else [])


def test_the_map_has_the_cells_and_counts_what_lies_nowhere(found: dict[str, Any]) -> None:
    assert found["map"] == {
        "cells": [[-34, -71, 1], [52, 13, 2]], "num_occurrences": 5, "num_shown": 3, "num_at_zero": 1,
        "num_unknown": 1, "num_coarse": 1, "num_uncertainty_unknown": 1,
    }  # fmt: skip


def test_sizes_are_counted_below_the_edges(found: dict[str, Any]) -> None:
    side, area = found["sizes"]["shorter_side_px"], found["sizes"]["megapixels"]
    told = {(["<", *side["edges"]][n]): number for n, number in enumerate(side["counts"]) if number}
    assert told == {"<": 1, 512: 6}
    assert {(["<", *area["edges"]][n]): number for n, number in enumerate(area["counts"]) if number} == {"<": 1, 0.3: 6}
    assert found["sizes"]["num_unknown"] == 0


def test_clusters_show_what_looks_the_same_with_its_species_and_pages(found: dict[str, Any]) -> None:
    conflicts, exact = found["clusters"][reasons.CONFLICT], found["clusters"][reasons.EXACT_DUPLICATE]
    assert (conflicts["num"], conflicts["num_images"], exact["num"], exact["num_images"]) == (1, 2, 1, 1)
    (conflict,) = conflicts["examples"]
    assert [(image["image_id"], image["name"], image["page"]) for image in conflict["images"]] == [
        ("a5", "Papilio machaon", "https://user@one.example:8080/a5.jpg"), ("b4", HOSTILE, "https://page.example/b4"),
    ]  # fmt: skip
    (pair,) = exact["examples"]
    assert [(image["image_id"], image["kept"]) for image in pair["images"]] == [("a1", True), ("a6", False)]
    assert found["clusters"][reasons.NEAR_DUPLICATE] == {
        "num": 0, "num_images": 0, "meaning": reasons.REASONS[reasons.NEAR_DUPLICATE], "examples": [],
    }  # fmt: skip


def test_of_a_large_cluster_every_species_is_shown_and_of_many_the_largest(tmp_path: Path) -> None:
    ws = make_nothing(str(tmp_path))
    rows = [
        blank_row(schemas.EXCLUDED, image_id=f"{cluster:02}{n:02}", species_key="b" if n == 9 else "a",
                  reason=reasons.CONFLICT, cluster=f"{cluster:02}")
        for cluster in range(10)
        for n in range(10 if cluster < 8 else 2)
    ]  # fmt: skip
    ws.storage.write_table(workspace.EXCLUDED, pa.Table.from_pylist(rows, schemas.EXCLUDED))
    found = gather(ws, {}, Outcome())["clusters"][reasons.CONFLICT]
    assert (found["num"], found["num_images"]) == (10, 84)
    assert [example["cluster"] for example in found["examples"]] == [f"{n:02}" for n in range(facts.EXAMPLES)]
    for example in found["examples"]:
        assert example["num_images"] == 10
        assert [image["species_key"] for image in example["images"]] == ["a", "b", "a", "a"]


def test_species_without_a_photograph_used_are_told_with_the_main_reason(found: dict[str, Any]) -> None:
    told = {row["species_key"]: (row["name"], row["num_urls"], row["num_stored"], row["reason"])
            for row in found["unused_species"]["species"]}  # fmt: skip
    assert told == {
        "c": ("蝶 $x_", 1, 1, reasons.TOO_FEW_IMAGES),
        "d": ("Vanessa io", 2, 0, "not_found"),
        "e": ("", 1, 1, reasons.NOT_IN_MANIFEST),
    }
    assert found["unused_species"]["num"] == 3


def test_without_a_ledger_a_species_was_just_never_stored(tmp_path: Path) -> None:
    unused = gather(make_world(str(tmp_path), ledger=False), {}, Outcome())["unused_species"]["species"]
    assert {row["species_key"]: row["reason"] for row in unused}["d"] == NEVER_STORED


def test_origin_settings_and_versions_are_told_and_nothing_of_the_machine(found: dict[str, Any]) -> None:
    assert found["query"]["doi"] == "10.15468/dl.abc"
    assert found["query"]["source"] == "archive.zip"
    assert (found["query"]["num_datasets"], found["query"]["dataset_citations"]) == (2, ["One", "Two"])
    assert found["settings"] == {"manifest": {}, "download": {}, "split": {"seed": 7, "split_file": "mine.csv"}}
    assert found["outcome"]["counts"] == {"species": 2}
    assert {"python", "aitax-ray", "duckdb"} <= found["versions"].keys()
    assert "somebody" not in json.dumps(found)


def test_groups_that_are_on_several_sides_are_told(tmp_path: Path) -> None:
    ws = make_nothing(str(tmp_path))
    rows = [blank_row(schemas.SPLIT, image_id=side, split=side, group="g") for side in ("train", "test")]
    ws.storage.write_table(workspace.SPLIT, pa.Table.from_pylist(rows, schemas.SPLIT))
    found = gather(ws, {}, Outcome())
    assert found["num_groups_parted"] == 1
    assert any("1 group of photographs that belong together is on several sides" in line for line in found["caveats"])


def test_where_nothing_is_known_nothing_breaks(tmp_path: Path) -> None:
    found = gather(make_nothing(str(tmp_path)), {}, Outcome())
    assert [step["num"] for step in found["funnel"]][-2:] == [1, 1]
    assert add_up(found["funnel"])
    assert found["hosts"]["num_unknown"] == found["countries"]["num_unknown"] == found["years"]["num_unknown"] == 1
    assert found["sizes"]["num_unknown"] == 1
    assert json.loads(json.dumps(found)) == found


def test_an_empty_split_breaks_nothing(tmp_path: Path) -> None:
    ws = make_nothing(str(tmp_path))
    Storage(str(tmp_path)).write_table(workspace.SPLIT, schemas.SPLIT.empty_table())
    found = gather(ws, {}, Outcome())
    assert found["species"] == []
    assert found["species_summary"]["quantiles"] == {}


def test_the_facts_are_json(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, ensure_ascii=False)) == found


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/somebody/at/home/frogs.zip", "frogs.zip"),
        ("../somebody/frogs.zip", "frogs.zip"),
        ("~somebody/frogs.zip", "frogs.zip"),
        ("file:///somebody/frogs.zip", "frogs.zip"),
        ("https://me:SECRET@x.org/frogs.zip?sig=SECRET", "https://***@x.org/frogs.zip?sig=***"),
        ("10.15468/dl.frogs1", "10.15468/dl.frogs1"),
        ("open", "open"),
    ],
)
def test_a_setting_is_shown_without_the_place_it_names_on_this_machine(given: str, shown: str) -> None:
    assert facts._without_private({"root": given, "archive": given}) == {"archive": shown}


def test_one_table_is_joined_at_a_time(tmp_path: Path) -> None:
    """Three joins in one query shared DuckDB's 400 MB: the data card of a million photographs failed."""
    queries: list[str] = []

    class Recorder:
        def __init__(self, database: Any) -> None:
            self.database = database

        def register(self, name: str, table: Any) -> None:
            self.database.register(name, table)

        def execute(self, query: str) -> Any:
            queries.extend(query.split(";"))
            return self.database.execute(query)

    with open_database(tmp_path) as database:
        facts._register_tables(make_world(str(tmp_path / "root")), Recorder(database))  # type: ignore[arg-type]
    assert max(query.count("JOIN") for query in queries) == 1
