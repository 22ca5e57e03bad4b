import polars as pl
import pyarrow as pa
import pytest

from aitax_ray.errors import DataError
from aitax_ray.joins import check_unique, join_rows, look_up

TAXA = pa.table({"species_key": ["b", "a", "c"], "name": ["Rana beta", "Rana alba", "Rana gamma"]})


def test_each_key_gets_its_row_in_the_order_of_the_keys() -> None:
    found = look_up(["a", "c", "a"], TAXA, "species_key", "manifest/taxa.parquet")
    assert found.rows() == [("a", "Rana alba"), ("c", "Rana gamma"), ("a", "Rana alba")]
    assert look_up([], TAXA, "species_key", "manifest/taxa.parquet").columns == ["species_key", "name"]


def test_a_key_with_several_rows_is_an_error_also_when_nobody_asks_for_it() -> None:
    table = pa.concat_tables([TAXA, TAXA.slice(1, 1), TAXA.slice(1, 1)])
    message = r"manifest/taxa\.parquet has 3 rows with the species_key 'a' .*run `aitax manifest --force`"
    with pytest.raises(DataError, match=message):
        look_up(["b"], table, "species_key", "manifest/taxa.parquet")
    with pytest.raises(DataError, match=message):
        check_unique(table, "species_key", "manifest/taxa.parquet")
    check_unique(TAXA, "species_key", "manifest/taxa.parquet")


def test_a_key_without_a_row_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"split/split\.parquet has no row for 2 of 3 keys, such as the species_key 'x'"
    ):
        look_up(["a", "x", "y"], TAXA, "species_key", "split/split.parquet")


def test_a_join_keeps_the_rows_of_the_left_and_refuses_a_key_that_is_there_twice() -> None:
    left = pl.DataFrame({"species_key": ["b", "x", "b"]})
    taxa = pl.DataFrame(TAXA.to_pydict())
    found = join_rows(left, taxa, "species_key", "manifest/taxa.parquet", how="left")
    assert found["name"].to_list() == ["Rana beta", None, "Rana beta"]
    with pytest.raises(DataError, match=r"manifest/taxa\.parquet has several rows with the species_key 'b'"):
        join_rows(left, pl.concat([taxa, taxa]), "species_key", "manifest/taxa.parquet")
