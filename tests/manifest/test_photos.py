import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unicodedata import normalize
from urllib.parse import unquote

import polars as pl
import pytest

from aitax_ray import schemas
from aitax_ray.database import open_database
from aitax_ray.errors import DataError
from aitax_ray.manifest import photos, taxa
from aitax_ray.manifest.decide import DUPLICATE_URL, URL_UNDER_SEVERAL_SPECIES, Rules, decide_rows
from aitax_ray.schemas import image_id
from tests.gbif_download import write_folder

Form = Literal["NFC", "NFD"]


@dataclass(frozen=True)
class Found:
    media: pl.DataFrame
    dropped: pl.DataFrame
    occurrences: pl.DataFrame
    taxa: pl.DataFrame

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each file by its name, "" where it is kept."""
        reasons = dict.fromkeys(self.media["url"], "") | dict(self.dropped.select("url", "reason").iter_rows())
        return {unquote(url).rsplit("/", 1)[-1]: reason for url, reason in reasons.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def sort_out(folder: Path, rules: Rules | None = None) -> Found:
    work = folder.parent / "work"
    work.mkdir()
    with open_database(work) as database:
        num_rows = photos.read_folder(folder, database)
        counts = decide_rows(database, rules or Rules(), num_rows, work)
        assert counts.total() == num_rows
        taxa.write_occurrences(database, work / "occurrences.parquet")
        return Found(
            pl.read_parquet(work / "media" / "*.parquet"),
            pl.read_parquet(work / "dropped" / "*.parquet"),
            pl.read_parquet(work / "occurrences.parquet"),
            taxa.read_taxa(database),
        )


def test_every_photograph_takes_the_species_of_its_folder(folder: Path) -> None:
    write_folder(folder, {"Rana_alba/a b.jpg": "1", "Rana_alba/2020/june/c.PNG": "2", "Rana nigra/a.webp": "3"})
    found = sort_out(folder)
    url = (folder / "Rana_alba/a b.jpg").as_uri()
    assert url.endswith("/Rana_alba/a%20b.jpg")
    row = found.media.filter(image_id=image_id(url)).row(0, named=True)
    assert (row["url"], row["species_key"]) == (url, "Rana_alba")
    assert row["gbif_id"] == f"photo-{image_id(url)[:16]}"
    assert found.media["gbif_id"].n_unique() == found.media.height == 3
    assert found.media.columns == schemas.MEDIA.names
    assert set(found.media.select("license", "license_id", "url_from_references").iter_rows()) == {
        ("", "unknown", False)
    }
    assert found.dropped.is_empty()


def test_the_name_of_a_folder_is_the_key_and_the_name_of_its_species(folder: Path) -> None:
    write_folder(folder, {"Rana_alba/1.jpg": "", "Rana_alba/2.jpg": "", "Rana nigra/1.jpg": ""})
    found = sort_out(folder)
    assert found.taxa.select("species_key", "name", "num_occurrences", "num_images").rows() == [
        ("Rana nigra", "Rana nigra", 1, 1),
        ("Rana_alba", "Rana alba", 2, 2),
    ]
    assert found.occurrences.columns == schemas.OCCURRENCES.names


def test_metadata_csv_adds_what_folders_do_not_say(folder: Path) -> None:
    metadata = (
        "\ufefffile,license, creator ,rightsHolder,scientificName,gbifID,decimalLatitude,eventDate,family,unknown\n"
        'a/1.jpg,CC BY 4.0,"Ann, Bob",Museum,"Rana alba L., 1758",7,47.5,2020-07-06,Ranidae,x\n'
        "./a/2.jpg,,,,,7,,,\n"
        "a/3.jpg,all rights reserved\n"
    )
    write_folder(folder, {"a/1.jpg": "", "a/2.jpg": "", "a/3.jpg": "", "b/4.jpg": "", "metadata.csv": metadata})
    found = sort_out(folder)
    rows = {row["url"][-5:]: row for row in found.media.iter_rows(named=True)}
    assert [rows[f"{i}.jpg"]["license_id"] for i in (1, 2, 3, 4)] == [
        "CC-BY-4.0",
        "unknown",
        "all-rights-reserved",
        "unknown",
    ]
    assert (rows["1.jpg"]["creator"], rows["1.jpg"]["rights_holder"]) == ("Ann, Bob", "Museum")
    assert rows["1.jpg"]["gbif_id"] == rows["2.jpg"]["gbif_id"] == "7"
    occurrence = found.occurrences.filter(gbif_id="7").row(0, named=True)
    assert (occurrence["decimal_latitude"], occurrence["event_date"]) == (47.5, "2020-07-06")
    taxon = found.taxa.row(0, named=True)
    assert (taxon["name"], taxon["authorship"], taxon["family"]) == ("Rana alba", "L., 1758", "Ranidae")
    assert (taxon["num_occurrences"], taxon["num_images"]) == (2, 3)
    assert found.reasons == dict.fromkeys(("1.jpg", "2.jpg", "3.jpg", "4.jpg"), "")


def test_a_licence_of_metadata_is_subject_to_the_policy(folder: Path) -> None:
    write_folder(folder, {"a/1.jpg": "", "a/2.jpg": "", "metadata.csv": "file,license\na/1.jpg,CC0\n"})
    assert sort_out(folder, Rules("open")).reasons == {"1.jpg": "", "2.jpg": "license_not_admitted"}


def test_an_id_that_two_species_use_is_an_occurrence_of_each(folder: Path) -> None:
    metadata = "file,occurrenceID\na/1.jpg,1\na/2.jpg,1\nb/3.jpg,1\n"
    write_folder(folder, {"a/1.jpg": "", "a/2.jpg": "", "b/3.jpg": "", "metadata.csv": metadata})
    found = sort_out(folder)
    assert found.taxa.select("species_key", "num_occurrences", "num_images").rows() == [("a", 1, 2), ("b", 1, 1)]
    assert sorted(found.occurrences.select("gbif_id", "species_key").iter_rows()) == [("1", "a"), ("1", "b")]


def test_rows_of_metadata_that_name_no_file_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(folder, {"a/1.jpg": "", "metadata.csv": "file,license\na/1.jpg,CC0\na/2.jpg,CC0\n"})
    with caplog.at_level(logging.WARNING):
        sort_out(folder)
    assert [record.message for record in caplog.records] == ["1 rows of metadata.csv name no file, such as a/2.jpg"]


def test_metadata_may_come_from_a_table_program_of_windows(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = "file,license,creator\r\na\\1.jpg,CC0,Åsa\r\na/1.jpg,CC0,Åsa\r\n".encode("cp1252")
    write_folder(folder, {"a/1.jpg": "", "metadata.csv": metadata})
    assert sort_out(folder).media.select("license_id", "creator").rows() == [("CC0-1.0", "Åsa")]
    assert "metadata.csv is not in UTF-8: it is read as Windows-1252" in caplog.text


def test_all_statements_about_the_licence_are_read(folder: Path) -> None:
    metadata = "file,license,rights,UsageTerms\na/1.jpg,CC BY 4.0,no commercial use,CC BY 4.0\n"
    write_folder(folder, {"a/1.jpg": "", "metadata.csv": metadata})
    assert sort_out(folder).media["license_id"].to_list() == ["CC-BY-NC-4.0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,license\nx,CC0\n", "has no column `file`: it must name each file by its path below"),
        (b"file\n\x81\xff", r"cannot be read \(.*\): it must be a CSV file in UTF-8"),
        (b'file,license\na/1.jpg,"see "terms", CC0"\n', r"cannot be read \(.*\): it must be a CSV file in UTF-8"),
        (b"file,license\na/1.jpg,no reuse, CC0\n", r"cannot be read \(line 2 has more columns than the first line\)"),
        (b"file,license\na/1.jpg,no reuse\na/1.jpg,CC0\n", "has two different rows for the file 'a/1.jpg'"),
    ],
)
def test_metadata_that_cannot_be_used_says_why(folder: Path, content: bytes, message: str) -> None:
    write_folder(folder, {"a/1.jpg": "", "metadata.csv": content})
    with pytest.raises(DataError, match=f"metadata.csv {message}"):
        sort_out(folder)


def test_files_that_are_no_photographs_of_a_species_have_a_reason(folder: Path) -> None:
    write_folder(folder, {"s/1.jpg": "", "s/notes.txt": "", "s/.DS_Store": "", "loose.jpg": "", "readme.md": ""})
    assert sort_out(folder).reasons == {
        "1.jpg": "",
        "notes.txt": photos.NOT_AN_IMAGE_FILE,
        ".DS_Store": photos.NOT_AN_IMAGE_FILE,
        "loose.jpg": "no_species_key",
        "readme.md": photos.NOT_AN_IMAGE_FILE,
    }


def test_links_out_of_the_folder_are_not_followed(folder: Path) -> None:
    outside = write_folder(folder.parent / "out", {"secret.jpg": ""})
    write_folder(folder, {"s/1.jpg": ""})
    (folder / "s/link.jpg").symlink_to(outside / "secret.jpg")
    (folder / "linked").symlink_to(outside)
    (folder / "s/self").symlink_to(folder / "s")
    (folder / "s/loop.jpg").symlink_to(folder / "s/loop.jpg")
    assert sort_out(folder).reasons == {
        "1.jpg": "",
        "link.jpg": photos.OUTSIDE_THE_FOLDER,
        "linked": photos.OUTSIDE_THE_FOLDER,
        "self": photos.LINKED_FOLDER,
        "loop.jpg": photos.NOT_AN_IMAGE_FILE,
    }


def test_a_link_within_the_folder_is_the_photograph_it_leads_to(folder: Path) -> None:
    write_folder(folder, {"a/1.jpg": "", "a/2.jpg": "", "b/3.jpg": ""})
    (folder / "a/1-again.jpg").symlink_to(folder / "a/1.jpg")
    (folder / "b/2-again.jpg").symlink_to(folder / "a/2.jpg")
    found = sort_out(folder)
    assert sorted(found.media["url"].str.slice(-5)) == ["1.jpg", "3.jpg"]
    assert sorted(found.dropped["reason"]) == [DUPLICATE_URL, URL_UNDER_SEVERAL_SPECIES, URL_UNDER_SEVERAL_SPECIES]


def test_names_of_any_bytes_can_be_stored(folder: Path) -> None:
    name = os.fsdecode(b"Rana_\xff")
    write_folder(folder, {f"{name}/\u00e9#?.jpg": "", "it's/1.jpg": ""})
    found = sort_out(folder)
    assert sorted(found.media["species_key"]) == ["Rana_ÿ", "it's"]
    assert any(url.endswith("/Rana_%FF/%C3%A9%23%3F.jpg") for url in found.media["url"])
    assert photos.digest(folder)


def test_names_that_are_not_utf8_are_decoded_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [b"Iso\xebtes", b"Rana_\x81", "Isoëtes echinospora".encode()]
    write_folder(folder, {f"{os.fsdecode(name)}/1.jpg": "" for name in names})
    with caplog.at_level(logging.WARNING):
        found = sort_out(folder)
    assert sorted(found.media["species_key"]) == ["Isoëtes", "Isoëtes echinospora", "Rana_\x81"]
    assert [record.message for record in caplog.records] == [
        "2 names of files are not UTF-8 and were read as Windows-1252, such as Isoëtes/1.jpg"
    ]


@pytest.mark.parametrize(("on_disk", "typed"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC")])
def test_names_that_look_the_same_in_unicode_are_the_same(folder: Path, on_disk: Form, typed: Form) -> None:
    name = "Isoëtes lacustris/é.jpg"
    metadata = normalize(typed, f"file,license,scientificName\n{name},CC0,Isoëtes lacustris L.\n")
    write_folder(folder, {normalize(on_disk, name): "", "metadata.csv": metadata})
    found = sort_out(folder)
    assert found.media.select("species_key", "license_id").rows() == [("Isoëtes lacustris", "CC0-1.0")]
    assert found.taxa.select("species_key", "name", "authorship").rows() == [
        ("Isoëtes lacustris", "Isoetes lacustris", "L.")
    ]


def test_folders_whose_names_look_the_same_are_one_species(folder: Path) -> None:
    name = "Isoëtes lacustris"
    names = [name, normalize("NFD", name), name.replace(" ", "\u00a0"), f"{name} "]
    write_folder(folder, {f"{name}/{i}.jpg": "" for i, name in enumerate(names)})
    assert sort_out(folder).taxa.select("species_key", "num_images").rows() == [(name, 4)]


def test_a_folder_with_a_blank_name_is_no_species(folder: Path) -> None:
    write_folder(folder, {"s/1.jpg": "", " /2.jpg": ""})
    assert sort_out(folder).reasons == {"1.jpg": "", "2.jpg": "no_species_key"}


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "is empty"), ({"a.jpg": "", "s/notes.txt": ""}, "has no photographs among its 2 files")],
)
def test_a_folder_without_photographs_says_which_layout_is_expected(
    folder: Path, files: dict[str, str | bytes], message: str
) -> None:
    write_folder(folder, files)
    with pytest.raises(DataError, match=f"{message}: it must hold a sub-folder per species"):
        sort_out(folder)


def test_the_digest_notices_what_changed(tmp_path: Path) -> None:
    write_folder(tmp_path, {"s/1.jpg": "1", "s/2.jpg": "2"})
    before = photos.digest(tmp_path)
    assert photos.digest(tmp_path) == before
    os.utime(tmp_path / "s/1.jpg", ns=(1, 1))
    touched = photos.digest(tmp_path)
    (tmp_path / "s/2.jpg").unlink()
    fewer = photos.digest(tmp_path)
    (tmp_path / "metadata.csv").write_text("file\n")
    assert len({before, touched, fewer, photos.digest(tmp_path)}) == 4
