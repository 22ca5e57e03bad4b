import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aitax_ray.darwin_core.archive import open_archive
from aitax_ray.darwin_core.citation import Citation
from aitax_ray.errors import ArchiveError
from tests.archives import Files, Part, mark_as_encrypted, publisher_files, read_media
from tests.gbif_download import (
    archive_files,
    meta_xml,
    occurrence,
    photo,
    write_folder,
    write_zip,
)

OCCURRENCES = [occurrence("1"), occurrence("2", "12", countryCode="NA")]
MEDIA = [photo("1", "http://x.org/1.jpg", title="a frog"), photo("2 ", "http://x.org/2.jpg")]
READ = [(0, "1", "a frog"), (1, "2", "")]


def titles(path: Path) -> list[tuple[int, str, str]]:
    return read_media(path, "title")


def titles_of(tmp_path: Path, files: Files) -> list[tuple[int, str, str]]:
    return titles(write_zip(tmp_path / "a.zip", files))


def tarred(tmp_path: Path, files: Files) -> Path:
    folder = write_folder(tmp_path / "to-tar", files)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname="some/folder")
    return tmp_path / "a.tar.gz"


def stored(tmp_path: Path, files: Files) -> Path:
    with zipfile.ZipFile(tmp_path / "stored.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return tmp_path / "stored.zip"


def only_a_zip_inside(tmp_path: Path, files: Files) -> Path:
    (tmp_path / "holder").mkdir()
    write_zip(tmp_path / "holder" / "0001.zip", files)
    return tmp_path / "holder"


@pytest.mark.parametrize(
    "pack",
    [
        lambda top, files: write_zip(top / "a.zip", files),
        lambda top, files: write_zip(top / "a.zip", {f"download/x/{name}": text for name, text in files.items()}),
        lambda top, files: write_zip(top / "a.zip", {f"download\\{name}": text for name, text in files.items()}),
        lambda top, files: write_zip(top / "no-suffix", files),
        lambda top, files: write_folder(top / "unpacked", files),
        lambda top, files: write_folder(top / "above" / "below", files).parent,
        stored,
        tarred,
        only_a_zip_inside,
    ],
    ids=["zip", "nested", "backslashes", "no suffix", "folder", "folder above", "stored", "tar.gz", "zip in a folder"],
)
def test_an_archive_is_the_same_however_it_is_packed(tmp_path: Path, pack: Callable[[Path, Files], Path]) -> None:
    assert titles(pack(tmp_path, archive_files(OCCURRENCES, MEDIA))) == READ


def test_blank_lines_and_a_mark_before_the_xml_are_harmless(tmp_path: Path) -> None:
    meta = '\ufeff\n \r\n<?xml version="1.0" encoding="utf-8"?>' + meta_xml()
    assert titles_of(tmp_path, archive_files(OCCURRENCES, MEDIA, meta__xml=meta)) == READ


def test_of_a_download_of_gbif_the_media_that_gbif_interpreted_count(tmp_path: Path) -> None:
    core = Part("occurrence", "gbifID speciesKey", [("1", "11")])
    tables = [Part("audubon", "id accessURI"), Part("multimedia", "id identifier"), Part("image", "id identifier")]
    with open_archive(write_zip(tmp_path / "a.zip", publisher_files(core, *tables))) as archive:
        assert [table.kind for table in archive.media] == ["multimedia"]
    core = Part("occurrence", "id scientificName", [("1", "Rana alba")])
    with open_archive(write_zip(tmp_path / "b.zip", publisher_files(core, *tables))) as archive:
        assert [table.kind for table in archive.media] == ["multimedia", "audubon", "image"]


def test_an_archive_tells_its_origin(tmp_path: Path) -> None:
    with open_archive(write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA))) as archive:
        assert archive.citation == Citation(
            "10.15468/dl.frogs1", "0000001-000000000000001", "2026-07-16", ("The frog list.",)
        )


@pytest.mark.parametrize("metadata", ["<eml", "", "<eml/>", '<!DOCTYPE a [<!ENTITY e "x">]><eml packageId="&e;"/>'])
def test_a_metadata_xml_of_no_use_does_no_harm(tmp_path: Path, metadata: str) -> None:
    files = archive_files(OCCURRENCES, MEDIA, metadata__xml=metadata, citations__txt="")
    with open_archive(write_zip(tmp_path / "a.zip", files)) as archive:
        assert archive.citation == Citation()


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    files = archive_files(OCCURRENCES, MEDIA)
    assert titles_of(tmp_path, files) == READ
    assert titles_of(tmp_path, files | {"meta.xml": meta_xml(quote="&quot;")}) == READ
    with pytest.raises(ArchiveError):
        titles_of(tmp_path, {"a.txt": ""})
    assert list(scratch.iterdir()) == []


def breaking(tmp_path: Path, spoil: Callable[[bytearray], object]) -> Path:
    """An archive whose bytes `spoil` alters."""
    media = [photo(str(i), f"http://x.org/{i * 7919 % 9973}.jpg", title=f"{i * 104729 % 99991}") for i in range(2000)]
    path = write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, media))
    data = bytearray(path.read_bytes())
    spoil(data)
    path.write_bytes(data)
    return path


def middle_of_media(data: bytearray) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("multimedia.txt")
    return info.header_offset + 44 + info.compress_size // 2  # 44: header and name


def flip(data: bytearray) -> None:
    at = middle_of_media(data)
    data[at : at + 3] = bytes(byte ^ 0xFF for byte in data[at : at + 3])


def truncate(data: bytearray) -> None:
    del data[middle_of_media(data) :]


def encrypted(tmp_path: Path) -> Path:
    path = write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA))
    mark_as_encrypted(path, "multimedia.txt")
    return path


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return make


def zipped(**files: str | bytes) -> Callable[[Path], Path]:
    """An archive of which these files are others ("." is written "__")."""
    return lambda tmp_path: write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA, **files))


def of_files(files: Files) -> Callable[[Path], Path]:
    return lambda tmp_path: write_zip(tmp_path / "a.zip", files)


def folder_of(files: Files) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        (tmp_path / "a").mkdir()
        return write_folder(tmp_path / "a", files)

    return make


IMAGES = Part("multimedia", "id identifier", [("1", "http://x.org/1.jpg")])
WHOLE = archive_files(OCCURRENCES, MEDIA)
AGAIN = "download (it|the archive) again"
ASKED = ": on gbif.org, download the occurrences .* Darwin Core Archive"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (written("cat.jpg", b"\xff\xd8\xff" * 9), "cat.jpg is no archive: give the zip of a GBIF download"),
        (written("a.zip", b""), "a.zip is no archive: give the zip of a GBIF download"),
        (written("a.csv", b"gbifID\n"), f"a.csv is a single table, without media{ASKED}"),
        (lambda top: breaking(top, flip), f"a.zip is damaged .*: {AGAIN}"),
        (lambda top: breaking(top, truncate), rf"a.zip is damaged \(a zip that breaks off\): {AGAIN}"),
        (encrypted, "a.zip is encrypted: unpack it and give the folder"),
        (of_files({"a.txt": "", "b.txt": ""}), f"has no meta.xml, so it is no Darwin Core Archive{ASKED}"),
        (of_files({"00110.csv": "gbifID\n"}), f"is a single table without media .*SIMPLE_CSV.*{ASKED}"),
        (of_files({"00110.parquet/0001": b"", "x.parquet": b""}), rf"without media \(Parquet or Avro\){ASKED}"),
        (of_files({"occurrence.avro": b"Obj"}), rf"without media \(Parquet or Avro\){ASKED}"),
        (of_files(publisher_files(Part("taxon", "id"))), f"of a checklist without media{ASKED}"),
        (of_files(publisher_files(Part("event", "id"))), f"of sampling events without media{ASKED}"),
        (of_files(publisher_files(Part("occurrence", "id"))), f"Darwin Core Archive without media{ASKED}"),
        (of_files(publisher_files(Part("event", "id"), IMAGES)), f"events without occurrences, .* no species{ASKED}"),
        (of_files(publisher_files(Part("http://x.org/Gene", "id"), IMAGES)), f"of Gene rows, not of occ.*{ASKED}"),
        (of_files(publisher_files(Part("", "id"), IMAGES)), f"of nothing rows, not of occurrences{ASKED}"),
        (zipped(meta__xml=meta_xml()[:-9]), rf"the meta.xml of .*a.zip cannot be read \(.+\): {AGAIN}"),
        (zipped(meta__xml=""), rf"the meta.xml of .*a.zip cannot be read \(no element found.*\): {AGAIN}"),
        (zipped(meta__xml="<archive/>"), "the meta.xml of .*a.zip names no core"),
        (zipped(meta__xml='<!DOCTYPE a [<!ENTITY e "e">]>' + meta_xml()), f"it declares entities.*{AGAIN}"),
        (zipped(meta__xml=meta_xml().replace("UTF-8", "klingon")), f"encoding 'klingon' is unknown.*{AGAIN}"),
        (zipped(meta__xml=meta_xml().replace("UTF-8", "base64")), f"encoding 'base64' is unknown.*{AGAIN}"),
        (zipped(meta__xml=meta_xml().replace('index="3"', 'index="10000"')), f"more than 10,000 columns{ASKED}"),
        (zipped(meta__xml=" " * 10 * 2**20 + meta_xml()), f"the meta.xml of .* has .* bytes{ASKED}"),
        (of_files({n: t for n, t in WHOLE.items() if n != "multimedia.txt"}), f"lacks multimedia.txt, .*: {AGAIN}"),
        (folder_of({"notes.txt": "", "a/b.jpg": ""}), f"has no meta.xml, so it is no Darwin Core Archive{ASKED}"),
        (folder_of({}), f"has no meta.xml, so it is no Darwin Core Archive{ASKED}"),
    ],
)
def test_what_is_no_archive_with_photographs_says_what_it_is_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(ArchiveError, match=message) as caught:
        titles(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_multimedia_of_a_header_only_has_no_rows(tmp_path: Path) -> None:
    assert titles_of(tmp_path, archive_files(OCCURRENCES, [])) == []
    assert titles_of(tmp_path, archive_files(OCCURRENCES, [], multimedia__txt="")) == []


def test_a_table_of_occurrences_with_too_many_columns_is_refused_also_below_events(tmp_path: Path) -> None:
    files = publisher_files(Part("event", "id"), Part("occurrence", "id occurrenceID"), IMAGES)
    wide = str(files["meta.xml"]).replace('<field index="1" term="http://rs.tdwg.org/dwc/terms/occ', WIDE)
    with pytest.raises(ArchiveError, match="more than 10,000 columns"):
        titles_of(tmp_path, files | {"meta.xml": wide})


WIDE = '<field index="10000" term="http://rs.tdwg.org/dwc/terms/occ'
