from pathlib import Path

from aitax_ray.dataset.photographs import read_photographs
from aitax_ray.workspace import Workspace
from tests.dataset.test_split import Photo, store

PHOTOS: list[Photo] = [("c", "g1", "s"), ("a", "g2", "t"), ("b", "g3", "s")]


def test_rows_are_sorted_and_say_what_the_manifest_says(tmp_path: Path) -> None:
    store(str(tmp_path), PHOTOS, num_shards=2, listed=[("c", "g9", "t"), ("b", "g3", "s"), ("not stored", "g", "s")])
    rows = read_photographs(Workspace(str(tmp_path)), None)
    assert rows.select("image_id", "gbif_id", "species_key", "reason").rows() == [
        ("a", "g2", "t", "not_in_manifest"),
        ("b", "g3", "s", ""),
        ("c", "g9", "t", ""),
    ]


def test_rules_are_asked_when_there_is_a_limit(tmp_path: Path) -> None:
    root = store(
        str(tmp_path),
        PHOTOS,
        known={"a": {"title": "Label"}, "b": {"url": "https://archive.org/download/x/page/n7.jpg"}},
    )
    rows = read_photographs(Workspace(root), 128)
    assert rows["reason"].to_list() == ["label", "book_page", ""]
    assert read_photographs(Workspace(root), None)["reason"].to_list() == [""] * 3


def test_a_photograph_that_two_files_hold_is_one(tmp_path: Path) -> None:
    root = store(str(tmp_path), [*PHOTOS, PHOTOS[0]], num_shards=2, listed=PHOTOS)
    assert read_photographs(Workspace(root), None)["image_id"].to_list() == ["a", "b", "c"]


def test_nothing_stored_and_nothing_listed_is_no_row(tmp_path: Path) -> None:
    assert read_photographs(Workspace(store(str(tmp_path), [])), None).height == 0
