from pathlib import Path

import pytest

from aitax_ray.errors import ArchiveError
from aitax_ray.gbif.archive import Citation, open_archive

from .conftest import MEDIA_TERMS, archive_files, meta_xml, occurrence, photo, table_text, write_folder, write_zip

OCCURRENCES = [occurrence("1"), occurrence("2", "12", countryCode="NA")]
MEDIA = [photo("1", "http://x.org/1.jpg", title="a frog"), photo("2 ", "http://x.org/2.jpg")]


def titles(path: Path) -> list[tuple[int, str, str]]:
    with open_archive(path) as archive:
        return archive.read(archive.media(["title"])).rows()


def test_columns_come_by_name_and_missing_ones_are_empty(tmp_path: Path) -> None:
    with open_archive(write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA))) as archive:
        found = archive.read(archive.occurrences(["countryCode", "speciesKey", "noSuchTerm"]))
        assert found.columns == ["core_id", "countryCode", "speciesKey", "noSuchTerm"]
        assert found.rows() == [("1", "", "11", ""), ("2", "NA", "12", "")]
        media = archive.read(archive.media(["identifier"]))
        assert media.rows() == [(0, "1", "http://x.org/1.jpg"), (1, "2", "http://x.org/2.jpg")]


def test_the_archive_may_lie_in_a_folder_of_the_zip_or_be_unpacked(tmp_path: Path) -> None:
    files = archive_files(OCCURRENCES, MEDIA)
    nested = write_zip(tmp_path / "a.zip", {f"download/{name}": content for name, content in files.items()})
    for path in (nested, write_folder(tmp_path / "unpacked", files)):
        assert titles(path) == [(0, "1", "a frog"), (1, "2", "")]


def test_a_header_line_is_not_needed(tmp_path: Path) -> None:
    text = table_text(MEDIA_TERMS, MEDIA, header=False)
    whole = archive_files(OCCURRENCES, MEDIA)["occurrence.txt"]
    assert isinstance(whole, str)
    files = archive_files(
        [], [], meta__xml=meta_xml(header_lines=0), multimedia__txt=text, occurrence__txt=whole.split("\n", 1)[1]
    )
    assert titles(write_zip(tmp_path / "a.zip", files)) == [(0, "1", "a frog"), (1, "2", "")]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_byte_order_marks_leave_no_trace(tmp_path: Path, end: str, mark: str) -> None:
    media = [photo("1", "u", rightsHolder="last column"), photo("2", "u", rightsHolder="")]
    text = mark + table_text(MEDIA_TERMS, media, end=end)
    with open_archive(write_zip(tmp_path / "a.zip", archive_files([], [], multimedia__txt=text))) as archive:
        assert archive.read(archive.media(["rightsHolder"])).rows() == [(0, "1", "last column"), (1, "2", "")]


def test_stray_quotes_short_and_long_rows_lose_nothing(tmp_path: Path) -> None:
    text = table_text(MEDIA_TERMS, [photo(str(i), "u", title='"the one that got away') for i in range(5)])
    text = text.replace("gbifID", '"gbifID') + '5\tStillImage\n\n6\t\t\t\t\t"t' + "\t" * 20 + "x\n\n"
    found = titles(write_zip(tmp_path / "a.zip", archive_files([], [], multimedia__txt=text)))
    assert found == [(i, str(i), '"the one that got away') for i in range(5)] + [(5, "5", ""), (6, "6", '"t')]


def test_quoting_and_delimiters_are_honoured_where_declared(tmp_path: Path) -> None:
    media = [photo("1", '"http://x.org/1.jpg"', title='"a, ""b"""')]
    files = archive_files(
        [],
        [],
        meta__xml=meta_xml(delimiter=",", quote="&quot;"),
        multimedia__txt=table_text(MEDIA_TERMS, media, delimiter=","),
    )
    assert titles(write_zip(tmp_path / "a.zip", files)) == [(0, "1", 'a, "b"')]


def test_other_encodings_are_read_and_bad_bytes_lose_no_row(tmp_path: Path) -> None:
    text = table_text(MEDIA_TERMS, [photo("1", "u", title="Ménétriés")])
    latin = meta_xml().replace("UTF-8", "windows-1252")
    files = archive_files([], [], meta__xml=latin, multimedia__txt=text.encode("windows-1252"))
    assert titles(write_zip(tmp_path / "a.zip", files)) == [(0, "1", "Ménétriés")]
    files = archive_files([], [], multimedia__txt=text.encode("windows-1252"))
    assert titles(write_zip(tmp_path / "b.zip", files)) == [(0, "1", "M�n�tri�s")]


def test_defaults_of_meta_xml_fill_what_is_empty(tmp_path: Path) -> None:
    meta = meta_xml().replace('term="http://x.org/terms/title"', 'term="http://x.org/terms/title" default="untitled"')
    found = titles(write_zip(tmp_path / "a.zip", archive_files([], MEDIA, meta__xml=meta)))
    assert found == [(0, "1", "a frog"), (1, "2", "untitled")]


def test_an_archive_tells_its_origin(tmp_path: Path) -> None:
    with open_archive(write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA))) as archive:
        assert archive.citation == Citation(
            "10.15468/dl.frogs1", "0000001-000000000000001", "2026-07-16", ("The frog list.",)
        )


def test_a_broken_metadata_xml_does_no_harm(tmp_path: Path) -> None:
    files = archive_files(OCCURRENCES, MEDIA, metadata__xml="<eml", citations__txt="")
    with open_archive(write_zip(tmp_path / "a.zip", files)) as archive:
        assert archive.citation == Citation()


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    titles(write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, MEDIA)))
    assert list(scratch.iterdir()) == []


EVENT = meta_xml().replace("terms/Occurrence", "terms/Event")
AUDUBON = meta_xml().replace("http://rs.gbif.org/terms/1.0/Multimedia", "http://rs.tdwg.org/ac/terms/Multimedia")
LACKING = archive_files(OCCURRENCES, MEDIA)
del LACKING["multimedia.txt"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0011066-200127171203522.csv": "gbifID\tspecies\n"}, "is a single table without media .*SIMPLE_CSV"),
        ({"occurrence.parquet": b"PAR1"}, r"is a GBIF download without media \(Parquet or Avro\)"),
        ({"a.txt": "", "b.txt": ""}, "has no meta.xml, so it is no Darwin Core Archive"),
        (archive_files([], [], meta__xml=meta_xml(multimedia=False)), "with no media"),
        (archive_files([], [], meta__xml=EVENT), "of Event rows, not of occurrences"),
        (archive_files([], [], meta__xml=AUDUBON), "with its media in Audubon Core, which is not read"),
        (archive_files([], [], meta__xml=meta_xml().replace("speciesKey", "x")), "without GBIF's species keys"),
    ],
)
def test_what_is_no_archive_with_photographs_says_what_to_ask_for(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    path = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(ArchiveError, match=rf"a\.zip .*{message}.*: on gbif.org, download .* Darwin Core Archive"):
        titles(path)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"a\.zip lacks multimedia\.txt, which its meta\.xml names"):
        titles(write_zip(tmp_path / "a.zip", LACKING))


def test_a_bare_table_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "occurrences.csv"
    path.write_text("gbifID\n")
    with pytest.raises(ArchiveError, match="is a single table, without media"):
        titles(path)
