from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.index import assemble
from aitax_ray.index.assemble import Share, collect, divide, find_hidden, make_rows, write_share
from aitax_ray.index.build import SearchOptions, build_index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import open_index
from aitax_ray.index.thumbnails import open_thumbnails, write_thumbnails
from aitax_ray.licenses import Policy
from aitax_ray.thumbnails import shrink
from aitax_ray.training.feed import read_labels
from tests.small import write_root


def keys_of(*image_ids: str) -> np.ndarray:
    return np.array(image_ids, "S40")


def test_shards_are_of_one_size_and_together_hold_each_photograph_once_species_by_species(tmp_path: Path) -> None:
    labels = read_labels(write_root(tmp_path), "train")
    shares = divide(labels, 10)
    assert [len(share.image_ids) for share in shares] == [8, 8, 8]
    assert [share.number for share in shares] == [0, 1, 2]
    rows = [(row, key) for share in shares for row, key in zip(share.class_index, share.image_ids, strict=True)]
    assert rows == sorted(zip(labels.class_index, labels.image_ids, strict=True))
    assert [len(share.image_ids) for share in divide(labels, 1000)] == [24]


def test_embeddings_are_found_by_key_in_any_order() -> None:
    def batch(*rows: tuple[str, list[float]]) -> pa.Table:
        return pa.Table.from_pylist([{"image_id": key, "embedding": unit} for key, unit in rows], schemas.EMBEDDINGS)

    batches = [batch(("b", [0, 1]), ("x", [5, 5])), batch(("c", [1, 0]), ("a", [0.6, 0.8]))]
    found = collect(batches, keys_of("c", "a", "b"))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, [[1, 0], [0.6, 0.8], [0, 1]], atol=1e-3)
    with pytest.raises(DataError, match="1 photographs have no embedding, such as d: run `aitax index --force`"):
        collect(batches, keys_of("a", "d"))


@pytest.mark.parametrize("repeated", [True, False])
def test_a_photograph_without_exactly_one_row_in_the_manifest_is_an_error(tmp_path: Path, repeated: bool) -> None:
    ws = write_root(tmp_path, ["train"])
    media = ws.storage.read_table(workspace.MEDIA)
    ws.storage.write_table(
        f"{workspace.MEDIA}/part-00000.parquet", pa.concat_tables([media] * 2) if repeated else media[1:]
    )
    share = Share(0, keys_of(*media["image_id"].to_pylist()), np.zeros(3, np.int32))
    with pytest.raises(DataError, match="has 2 rows with the image_id" if repeated else "has no row for 1 of 3 keys"):
        make_rows(ws, share)


def test_addresses_that_only_this_machine_can_open_are_left_out(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    media = ws.storage.read_table(workspace.MEDIA)
    web = "https://photos.example/2.jpg"
    for name, values in (("url", ["file:///home/ann/1.jpg", web, web]), ("references", ["/home/ann", web, ""])):
        media = media.set_column(media.schema.get_field_index(name), name, pa.array(values))
    ws.storage.write_table(f"{workspace.MEDIA}/part-00000.parquet", media)
    rows = make_rows(ws, Share(0, keys_of(*media["image_id"].to_pylist()), np.arange(3, dtype=np.int32)))
    assert rows["url"].to_pylist() == ["", web, web]
    assert rows["references"].to_pylist() == ["", web, ""]
    assert rows.schema.equals(schemas.INDEX_ROWS)


def test_rows_have_the_date_of_their_occurrence_or_none(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    media = ws.storage.read_table(workspace.MEDIA)
    seen = ws.storage.read_table(workspace.OCCURRENCES)[:2]
    dates = pa.array(["2023-05-01T10:00:00", "2019"])
    seen = seen.set_column(seen.schema.get_field_index("event_date"), "event_date", dates)
    ws.storage.write_table(workspace.OCCURRENCES, pa.concat_tables([seen, seen]))
    rows = make_rows(ws, Share(0, keys_of(*media["image_id"].to_pylist()), np.arange(3, dtype=np.int32)))
    expected = dict(zip(seen["gbif_id"].to_pylist(), dates.to_pylist(), strict=True))
    assert rows["event_date"].to_pylist() == [expected.get(key, "") for key in rows["gbif_id"].to_pylist()]
    assert len(set(rows["event_date"].to_pylist())) == 3


def test_only_photographs_under_licences_of_the_policy_are_shown(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    media = ws.storage.read_table(workspace.MEDIA)
    licences = pa.array(["CC-BY-4.0", "CC-BY-NC-4.0", "unknown"])
    media = media.set_column(media.schema.get_field_index("license_id"), "license_id", licences)
    ws.storage.write_table(f"{workspace.MEDIA}/part-00000.parquet", media)
    keys = media["image_id"].to_pylist()
    share = Share(0, keys_of(*keys), np.arange(3, dtype=np.int32))
    expected: dict[Policy, list[bool]] = {
        "any": [True, True, True],
        "non-commercial": [True, True, False],
        "open": [True, False, False],
    }
    for policy, is_shown in expected.items():
        assert make_rows(ws, share, policy)["is_shown"].to_pylist() == is_shown
        hidden = find_hidden(ws, policy)
        assert [key not in hidden for key in keys] == is_shown


def test_only_records_of_gbifs_datasets_are_at_gbif(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    media = ws.storage.read_table(workspace.MEDIA)
    dataset_key = "50c9509d-22c7-4a22-a47d-8c48425ef4a7"
    for name, values in (("gbif_id", ["17", "17-a", "17"]), ("dataset_key", [dataset_key, dataset_key, "my frogs"])):
        media = media.set_column(media.schema.get_field_index(name), name, pa.array(values))
    ws.storage.write_table(f"{workspace.MEDIA}/part-00000.parquet", media)
    share = Share(0, keys_of(*media["image_id"].to_pylist()), np.arange(3, dtype=np.int32))
    assert make_rows(ws, share)["is_at_gbif"].to_pylist() == [True, False, False]


def test_a_shard_reads_only_its_own_rows_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = write_root(tmp_path)
    first, *_ = divide(read_labels(ws, "train"), 5)
    monkeypatch.setattr("aitax_ray.storage.Storage.read_table", lambda *_: pytest.fail("a whole table is read"))
    monkeypatch.setattr("aitax_ray.index.added.ROWS_PER_BATCH", 3)
    rows = make_rows(ws, first)
    assert rows["image_id"].to_pylist() == [key.decode() for key in first.image_ids]
    assert set(rows["split"].to_pylist()) == {"train"}


@pytest.mark.parametrize("thumbnails", [True, False])
def test_a_shard_has_the_thumbnails_of_its_photographs_unless_none_are_wanted(tmp_path: Path, thumbnails: bool) -> None:
    ws = write_root(tmp_path)
    settings = IndexSettings(root=ws.root, thumbnails=thumbnails, thumbnail_size=32)
    images = ws.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"])
    write_thumbnails(images, open_thumbnails(ws.storage, 32), 32)
    labels = read_labels(ws, "train")
    unit = np.eye(len(labels), dtype=np.float16)
    columns = {"image_id": [key.decode() for key in labels.image_ids], "embedding": list(unit)}
    columns["jpeg_sha256"] = [""] * len(labels)
    for share in divide(labels, 12):
        write_share(ws, settings, lambda: [pa.table(columns, schemas.EMBEDDINGS)], share)
    with open_index(ws.storage) as index:
        assert len(index.shards) == 2
        for shard in index.shards:
            assert (shard.folder / "thumbnails.bin").exists() == thumbnails
            for row in shard.rows.to_pylist():
                content = shard.thumbnails[row["thumbnail_offset"] :][: row["thumbnail_length"]].tobytes()
                expected = [
                    shrink(i["jpeg"], 32, "WebP") for i in images.to_pylist() if i["image_id"] == row["image_id"]
                ]
                assert [content] == (expected if thumbnails else [b""])


def test_a_later_index_updates_the_search_of_the_same_shard_but_not_with_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = write_root(tmp_path, ["train"] * 4)
    labels = read_labels(ws, "train")
    columns = {"image_id": [key.decode() for key in labels.image_ids], "embedding": list(np.eye(len(labels)))}
    columns["jpeg_sha256"] = [""] * len(labels)
    batch = pa.table(columns, schemas.EMBEDDINGS)
    updated: list[list[int]] = []

    def update(previous: Path, folder: Path, origin: np.ndarray, options: SearchOptions) -> None:
        assert previous == tmp_path / "index" / "shards" / "00000"
        assert (options.recall, options.memory, options.num_vectors) == (0.9, 8_000_000_000, len(labels))
        updated.append(origin.tolist())
        build_index(folder, options)

    monkeypatch.setattr("aitax_ray.index.shards.update_index", update)
    settings = IndexSettings(root=ws.root, thumbnails=False, recall=0.9, memory="8GB")
    (share,) = divide(labels, 1000)
    first = Share(0, share.image_ids[1:], share.class_index[1:], len(labels))
    (tmp_path / "index" / "shards" / "00000").mkdir(parents=True)
    (tmp_path / "index" / "shards" / "00000" / "old.bin").write_bytes(b"")
    for force, each in ((False, first), (False, share), (True, share)):
        write_share(ws, settings.model_copy(update={"force": force}), lambda: [batch], each)
        assert not (tmp_path / "index" / "shards" / "00000" / "old.bin").exists()
    assert updated == [[-1, *range(len(labels) - 1)]]


def test_an_earlier_search_goes_on_only_with_the_settings_that_it_was_chosen_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, goes_on, write_shard = write_root(tmp_path), [], assemble.write_shard

    def record(folder: Path, rows: pa.Table, vectors: np.ndarray, options: SearchOptions, earlier: Path | None) -> None:
        goes_on.append(earlier is not None)
        write_shard(folder, rows, vectors, options, earlier)

    monkeypatch.setattr(assemble, "write_shard", record)
    labels = read_labels(ws, "train")
    columns = {"image_id": [key.decode() for key in labels.image_ids], "embedding": list(np.eye(len(labels)))}
    rows = pa.table({**columns, "jpeg_sha256": [""] * len(labels)}, schemas.EMBEDDINGS)
    half = {"leaves_to_search": 0.5}
    changes: list[dict[str, float]] = [{}, {}, half, half, {"recall": 0.9}, {}]
    for change in changes:
        settings = IndexSettings.model_validate({"root": ws.root, "thumbnails": False, **change})
        write_share(ws, settings, lambda: [rows], divide(labels, 100)[0])
    assert goes_on == [False, True, False, True, False, False]
    ws.storage.write_bytes(f"{workspace.SHARDS}/00000/search.json", b"{}")
    write_share(ws, settings, lambda: [rows], divide(labels, 100)[0])
    assert not goes_on[-1]
