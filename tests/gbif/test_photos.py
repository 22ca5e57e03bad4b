import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from aitax_ray import schemas
from aitax_ray.errors import DataError
from aitax_ray.gbif import photos
from aitax_ray.gbif.media import DUPLICATE_URL, NO_SPECIES_KEY, URL_UNDER_SEVERAL_SPECIES, settle
from aitax_ray.schemas import image_id

from .conftest import write_folder


def reasons(folder: Path) -> dict[str, str]:
    """File name to reason, "" when it is kept."""
    kept, dropped = settle(photos.candidates(folder), None, 0)
    told = {str(r["url"]): str(r["reason"]) for r in dropped.iter_rows(named=True)} | dict.fromkeys(kept["url"], "")
    return {unquote(url).rsplit("/", 1)[-1]: reason for url, reason in told.items()}


def test_every_photograph_takes_the_species_of_its_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, {"Rana_alba/a b.jpg": "1", "Rana_alba/2020/june/c.PNG": "2", "Rana nigra/a.webp": "3"})
    kept, dropped = settle(photos.candidates(tmp_path), None, 0)
    url = (tmp_path / "Rana_alba/a b.jpg").as_uri()
    assert url.endswith("/Rana_alba/a%20b.jpg")
    row = kept.filter(image_id=image_id(url)).row(0, named=True)
    assert (row["url"], row["species_key"]) == (url, "Rana_alba")
    assert row["gbif_id"] == f"photo-{image_id(url)[:16]}"
    assert kept["gbif_id"].n_unique() == kept.height == 3
    assert set(kept["license"]) == {""}
    assert dropped.is_empty()


def test_the_folders_name_is_key_and_name(tmp_path: Path) -> None:
    write_folder(tmp_path, {"Rana_alba/1.jpg": "", "Rana_alba/2.jpg": "", "Rana nigra/1.jpg": ""})
    kept, _ = settle(photos.candidates(tmp_path), None, 0)
    taxa = photos.taxa(kept)
    assert set(taxa.columns) == set(schemas.TAXA.names)
    assert taxa.select("species_key", "name", "num_occurrences", "num_images").rows() == [
        ("Rana nigra", "Rana nigra", 1, 1),
        ("Rana_alba", "Rana alba", 2, 2),
    ]
    assert set(photos.occurrences(kept).columns) == set(schemas.OCCURRENCES.names)


def test_files_that_are_no_photographs_of_a_species_have_a_reason(tmp_path: Path) -> None:
    write_folder(tmp_path, {"s/1.jpg": "", "s/notes.txt": "", "s/.DS_Store": "", "loose.jpg": "", "readme.md": ""})
    assert reasons(tmp_path) == {
        "1.jpg": "",
        "notes.txt": photos.NOT_AN_IMAGE_FILE,
        ".DS_Store": photos.NOT_AN_IMAGE_FILE,
        "loose.jpg": NO_SPECIES_KEY,
        "readme.md": photos.NOT_AN_IMAGE_FILE,
    }


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write_folder(tmp_path, {"out/secret.jpg": "", "in/s/1.jpg": ""})
    folder = tmp_path / "in"
    (folder / "s/link.jpg").symlink_to(tmp_path / "out/secret.jpg")
    (folder / "linked").symlink_to(tmp_path / "out")
    (folder / "s/self").symlink_to(folder / "s")
    (folder / "s/loop.jpg").symlink_to(folder / "s/loop.jpg")
    assert reasons(folder) == {
        "1.jpg": "",
        "link.jpg": photos.OUTSIDE_THE_FOLDER,
        "linked": photos.OUTSIDE_THE_FOLDER,
        "self": photos.LINKED_FOLDER,
        "loop.jpg": photos.NOT_AN_IMAGE_FILE,
    }


def test_a_link_within_the_folder_is_the_photograph_it_leads_to(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/1.jpg": "", "a/2.jpg": "", "b/3.jpg": ""})
    (tmp_path / "a/1-again.jpg").symlink_to(tmp_path / "a/1.jpg")
    (tmp_path / "b/2-again.jpg").symlink_to(tmp_path / "a/2.jpg")
    kept, dropped = settle(photos.candidates(tmp_path), None, 0)
    assert sorted(kept["url"].str.slice(-5)) == ["1.jpg", "3.jpg"]
    assert sorted(dropped["reason"]) == [DUPLICATE_URL, URL_UNDER_SEVERAL_SPECIES, URL_UNDER_SEVERAL_SPECIES]


def test_names_of_any_bytes_can_be_stored(tmp_path: Path) -> None:
    name = os.fsdecode(b"Rana_\xff")
    write_folder(tmp_path, {f"{name}/\u00e9#?.jpg": ""})
    kept, _ = settle(photos.candidates(tmp_path), None, 0)
    assert kept["species_key"].to_list() == ["Rana_�"]
    assert kept["url"][0].endswith("/Rana_%FF/%C3%A9%23%3F.jpg")
    assert photos.digest(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "is empty"), ({"a.jpg": "", "s/notes.txt": ""}, "has no photographs among its 2 files")],
)
def test_a_folder_without_photographs_says_which_layout_is_expected(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(DataError, match=f"{message}: it must hold a sub-folder per species"):
        photos.candidates(write_folder(tmp_path, files))


def test_the_digest_notices_what_changed(tmp_path: Path) -> None:
    write_folder(tmp_path, {"s/1.jpg": "1", "s/2.jpg": "2"})
    before = photos.digest(tmp_path)
    assert photos.digest(tmp_path) == before
    os.utime(tmp_path / "s/1.jpg", ns=(1, 1))
    touched = photos.digest(tmp_path)
    (tmp_path / "s/2.jpg").unlink()
    assert len({before, touched, photos.digest(tmp_path)}) == 3
