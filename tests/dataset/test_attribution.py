import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.dataset import attribution
from aitax_ray.dataset.attribution import COLUMNS, describe, read_split, require_split, write_attribution
from aitax_ray.errors import DataError, MissingArtifactError, StaleArtifactError
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row

A, B = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"
BY = "http://creativecommons.org/licenses/by-nc/4.0/"
Row = dict[str, Any]


def photo(url: str, gbif_id: str, species_key: str = "1", split: str = "train", **known: Any) -> Row:
    """A photograph in use: what split, media and occurrences tell of it."""
    row = {"image_id": schemas.image_id(url), "url": url, "gbif_id": gbif_id, "species_key": species_key}
    return row | {"split": split, "group": gbif_id, "class_index": int(species_key) - 1, "dataset_key": A} | known


PHOTOS = [
    photo("http://x.org/1", "11", license=BY, license_id="CC-BY-NC-4.0", creator="Ann, \"A.\"\nBee", publisher="P"),
    photo("http://x.org/2", "11", creator="=HYPERLINK(1)", rights_holder=" +1", references="https://x.org/page/2"),
    photo("http://x.org/3", "12", "2", "val", license="cc0", license_id="CC0-1.0", decimal_latitude=-1.25),
    photo("http://x.org/4", "13", "2", "test", dataset_key=B, creator="@ann", license_id="unknown"),
    photo("file:///own/5.jpg", "photo-5", "2", "train", dataset_key="", creator="Großmann ×"),
]  # fmt: skip
TAXA = [
    {"species_key": "1", "name": "Rana alba", "scientific_name": "Rana alba L., 1758", "genus": "Rana"},
    {"species_key": "2", "name": "Rana nigra", "scientific_name": "Rana nigra Blö", "vernacular_name": "Black frog"},
]
QUERY = {"source": "10.15468/dl.x", "doi": "10.15468/dl.x", "citation": "GBIF.org GBIF Occurrence Download"}


def make_root(
    root: str,
    photos: Sequence[Row] = PHOTOS,
    taxa: Sequence[Row] = TAXA,
    query: Row | None = None,
    extra: Sequence[Row] = (),
    jpeg: bytes = b"jpeg of ",
) -> Workspace:
    """Make manifest, download and split complete with these photographs; the manifest also lists `extra`."""
    ws = Workspace(root)

    def table(schema: pa.Schema, rows: Sequence[Row]) -> pa.Table:
        known = [{name: value for name, value in row.items() if name in schema.names} for row in rows]
        return pa.Table.from_pylist([blank_row(schema, **row) for row in known], schema)

    def manifest() -> Outcome:
        media = sorted([*photos, *extra], key=lambda row: row["image_id"])
        for number in range(2):  # in two files
            part = media[: len(media) // 2] if number == 0 else media[len(media) // 2 :]
            ws.storage.write_table(f"{workspace.MEDIA}/part-{number}.parquet", table(schemas.MEDIA, part))
        occurrences = {(row["gbif_id"], row["species_key"]): row for row in [*photos, *extra]}
        ws.storage.write_table(workspace.OCCURRENCES, table(schemas.OCCURRENCES, list(occurrences.values())))
        ws.storage.write_table(workspace.TAXA, table(schemas.TAXA, taxa))
        ws.storage.write_json(workspace.QUERY, query or QUERY)
        return Outcome()

    def download() -> Outcome:
        rows = [row | {"jpeg": row.get("jpeg", jpeg + row["url"].encode())} for row in photos]
        for number in range(3):
            ws.storage.write_table(f"{workspace.IMAGES}/{number}.parquet", table(schemas.IMAGES, rows[number::3]))
        return Outcome()

    def split() -> Outcome:
        ordered = sorted(photos, key=lambda row: row["image_id"])
        ws.storage.write_table(workspace.SPLIT, table(schemas.SPLIT, ordered))
        write_attribution(ws)
        return Outcome()

    settings = StageSettings(root=root)
    ws.run("manifest", settings, (), manifest)
    ws.run("download", settings, ("manifest",), download)
    ws.run("split", settings, ("download", "manifest"), split)
    return ws


def read_attribution(ws: Workspace) -> dict[str, dict[str, str]]:
    """The rows of attribution.csv by the last part of their URL."""
    text = ws.storage.read_bytes(workspace.ATTRIBUTION).decode()
    return {row["url"].rsplit("/", 1)[-1]: row for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)}


def test_every_photograph_in_use_has_a_row_and_no_other(tmp_path: Path) -> None:
    ws = make_root(str(tmp_path), extra=[photo("http://x.org/unused", "99")])
    rows = read_attribution(ws)
    assert sorted(rows) == ["1", "2", "3", "4", "5.jpg"]
    assert list(rows["1"]) == list(COLUMNS)
    assert rows["1"] == {
        "image_id": schemas.image_id("http://x.org/1"), "split": "train", "species": "Rana alba",
        "scientific_name": "Rana alba L., 1758", "gbif_id": "11", "occurrence": "https://www.gbif.org/occurrence/11",
        "creator": 'Ann, "A."\nBee', "rights_holder": "", "publisher": "P", "license": BY,
        "license_id": "CC-BY-NC-4.0", "license_url": "https://creativecommons.org/licenses/by-nc/4.0/",
        "url": "http://x.org/1", "references": "", "dataset_key": A,
    }  # fmt: skip
    ids = [row["image_id"] for row in rows.values()]
    assert ids == sorted(ids)


def test_lines_end_and_are_quoted_as_rfc_4180_says(tmp_path: Path) -> None:
    lines = make_root(str(tmp_path)).storage.read_bytes(workspace.ATTRIBUTION)
    assert lines.startswith(",".join(COLUMNS).encode() + b"\r\n")
    assert lines.count(b"\r\n") == 1 + len(PHOTOS)
    assert b'"Ann, ""A.""\nBee"' in lines
    assert "Großmann ×".encode() in lines
    assert b'""' not in lines.replace(b'""A.""', b"")  # what is not known takes no quotes


def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path: Path) -> None:
    rows = read_attribution(make_root(str(tmp_path)))
    assert (rows["2"]["creator"], rows["2"]["rights_holder"]) == ("'=HYPERLINK(1)", "' +1")
    assert rows["4"]["creator"] == "'@ann"
    assert rows["2"]["references"] == "https://x.org/page/2"


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\rx", "\nx", "  -1", "＝1"])
def test_every_beginning_of_a_formula_is_disarmed(tmp_path: Path, text: str) -> None:
    rows = read_attribution(make_root(str(tmp_path), [photo("http://x.org/1", "1", creator=text, title=text)]))
    assert rows["1"]["creator"] == f"'{text}"


@pytest.mark.parametrize(
    ("text", "disarmed"),
    [
        ("frog;=1+1", "frog;'=1+1"),
        ('frog; "=cmd()"', 'frog; "\'=cmd()"'),
        ("a;-b;@c", "a;'-b;'@c"),
        ("two\n+lines", "two\n'+lines"),
        ("a;b; 5 - 3", "a;b; 5 - 3"),
        ("Rana-alba=1", "Rana-alba=1"),
    ],
)
def test_a_formula_is_disarmed_behind_a_semicolon_too(tmp_path: Path, text: str, disarmed: str) -> None:
    rows = read_attribution(make_root(str(tmp_path), [photo("http://x.org/1", "1", creator=text)]))
    assert rows["1"]["creator"] == disarmed


@pytest.mark.parametrize(
    ("gbif_id", "dataset_key", "link"),
    [
        ("4011", A, "https://www.gbif.org/occurrence/4011"),
        ("4011", A.upper(), "https://www.gbif.org/occurrence/4011"),
        ("4011", "", ""),  # a publisher's own number
        ("photo-4011", A, ""),
        ("4011", "my frogs", ""),
    ],
)
def test_only_records_of_gbif_are_linked_to_it(tmp_path: Path, gbif_id: str, dataset_key: str, link: str) -> None:
    rows = read_attribution(make_root(str(tmp_path), [photo("http://x.org/1", gbif_id, dataset_key=dataset_key)]))
    assert rows["1"]["occurrence"] == link


def test_datasets_are_counted_by_records_not_by_photographs(tmp_path: Path) -> None:
    ws = make_root(str(tmp_path))
    assert ws.storage.read_json(workspace.RELATED_DATASETS) == {A: 2, B: 1}
    assert write_attribution(ws) == {"photographs": 5, "datasets": 2, "records": 3}


def test_ones_own_photographs_are_of_no_dataset(tmp_path: Path) -> None:
    ws = make_root(str(tmp_path), [photo("file:///1.jpg", "photo-1", dataset_key="")])
    assert ws.storage.read_json(workspace.RELATED_DATASETS) == {}


def test_a_photograph_that_the_manifest_does_not_know_is_told(tmp_path: Path) -> None:
    ws = make_root(str(tmp_path))
    rows = read_split(ws)
    ws.storage.delete(f"{workspace.MEDIA}/part-1.parquet")
    with pytest.raises(DataError, match="3 photographs of the split are not in the manifest"):
        list(describe(ws, rows))


def test_a_root_that_is_no_local_folder_will_do() -> None:
    ws = make_root("memory://attribution/root")
    assert len(read_attribution(ws)) == len(PHOTOS)
    assert ws.storage.read_json(workspace.RELATED_DATASETS) == {A: 2, B: 1}


def test_a_split_of_another_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError):
        require_split(Workspace(str(tmp_path)))
    ws = make_root(str(tmp_path))
    assert require_split(ws).stage == "split"
    Storage(str(tmp_path)).write_json("manifest/more.json", 1)
    with pytest.raises(StaleArtifactError, match="run `aitax split --root"):
        require_split(ws)


def test_the_rows_of_a_batch_are_found_without_a_look_at_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at all rows for each batch took the square of the time."""
    rows = read_split(make_root(str(tmp_path), [photo(f"http://x.org/{n}", str(n)) for n in range(40)]))
    monkeypatch.setattr(attribution, "ROWS_PER_BATCH", 4)
    heights: list[int] = []
    filter_rows = pl.DataFrame.filter

    def record(self: pl.DataFrame, *conditions: Any) -> pl.DataFrame:
        heights.append(self.height)
        return filter_rows(self, *conditions)

    monkeypatch.setattr(pl.DataFrame, "filter", record)
    assert sum(batch.height for batch in describe(Workspace(str(tmp_path)), rows)) == 40
    assert max(heights, default=0) <= 4
