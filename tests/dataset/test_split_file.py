from pathlib import Path

import polars as pl
import pytest

from aitax_ray.dataset.split_file import read_split_file
from aitax_ray.errors import SettingsError
from aitax_ray.schemas import image_id


def test_sides_come_by_image_url_or_occurrence(tmp_path: Path) -> None:
    for key, name, values in (
        ("image_id", "a.csv", ["1", "2", "3"]),
        ("gbif_id", "b.parquet", ["1", "2", "3"]),
        ("url", "c.tsv", ["http://a/1", "http://a/2", "http://a/3"]),
    ):
        frame = pl.DataFrame({"other": ["x"] * 3, key: values, "split": ["train", "Validation", " TEST "]})
        if name.endswith("parquet"):
            frame.write_parquet(tmp_path / name)
        else:
            frame.write_csv(tmp_path / name, separator="\t" if name.endswith("tsv") else ",")
        found = read_split_file(tmp_path / name)
        expected = [image_id(url) for url in values] if key == "url" else values
        assert found.columns == ["gbif_id" if key == "gbif_id" else "image_id", "split"]
        assert dict(found.iter_rows()) == dict(zip(expected, ["train", "val", "test"], strict=True))


def test_text_that_is_not_utf8_is_read_as_windows_1252(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.csv").write_bytes("url,split\nhttp://a/é.jpg,train\n".encode("cp1252"))
    assert read_split_file(tmp_path / "a.csv").rows() == [(image_id("http://a/é.jpg"), "train")]
    assert "is not in UTF-8: it is read as Windows-1252" in caplog.text


def test_the_same_row_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image_id,split\n1,val\n1,dev\n", "utf-8")
    assert read_split_file(tmp_path / "a.csv").rows() == [("1", "val")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image_id,side\n1,train\n", "has the columns image_id, side: it needs `split` and one of image_id, url"),
        ("split\ntrain\n", "it needs `split` and one of"),
        ("image_id,split\n1,holdout\n", "'holdout' is none of train, training, test"),
        ("image_id,split\n1,\n", "'None' is none of"),
        ("url,split\n,train\n,test\nhttp://a/1,test\n", "2 rows have no url"),
        ("image_id,split\n1,train\n1,test\n", "image_id 1 is on several sides"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_split_is_refused_with_the_reason(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.csv").write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=told):
        read_split_file(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("10000000001.0", "10000000001"),
        (" 7.0 ", "7"),
        ("7.", "7"),
        ("4.000000119e9", "4000000119"),
        ("4E+09", "4000000000"),
        ("4000000119", "4000000119"),
        ("7.5", "7.5"),
        ("007", "007"),
        ("9007199254740993.0", "9007199254740993.0"),  # beyond 2**53: which number it was is lost
        ("12e4567", "12e4567"),
        ("7K3", "7K3"),
    ],
)
def test_a_key_that_went_through_a_table_program_is_the_key(tmp_path: Path, written: str, key: str) -> None:
    (tmp_path / "a.csv").write_text(f"gbif_id,split\n{written},train\n", "utf-8")
    assert read_split_file(tmp_path / "a.csv").rows() == [(key, "train")]


def test_the_same_key_in_csv_and_in_parquet_is_one_key(tmp_path: Path) -> None:
    frame = pl.DataFrame({"gbif_id": [4000000119.0, 7.0, 10000000001.0], "split": ["train", "test", "val"]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    expected = [("10000000001", "val"), ("4000000119", "train"), ("7", "test")]
    assert sorted(read_split_file(tmp_path / "a.parquet").rows()) == expected
    assert sorted(read_split_file(tmp_path / "a.csv").rows()) == expected
