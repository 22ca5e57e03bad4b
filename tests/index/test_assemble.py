from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.index.assemble import Share, collect, divide, make_rows
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
