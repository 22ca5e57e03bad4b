import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from aitax_ray.gbif import media as rules
from aitax_ray.gbif.archive import open_archive
from aitax_ray.gbif.media import candidates, count_hosts, count_reasons, settle
from aitax_ray.schemas import image_id

from .conftest import MEDIA_TERMS, Row, archive_files, occurrence, photo, table_text, write_zip

OCCURRENCES = [occurrence("1"), occurrence("2"), occurrence("3", "12"), occurrence("4", "", taxonRank="GENUS")]


def sort_out(
    tmp_path: Path, media: list[Row], number: int | None = None, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    with open_archive(write_zip(tmp_path / "a.zip", archive_files(OCCURRENCES, media))) as archive:
        return settle(candidates(archive), number, seed)


def reason_of(tmp_path: Path, **columns: str) -> str:
    """Why a photograph with these columns is dropped, "" when it is kept."""
    _, dropped = sort_out(tmp_path, [photo("1", "http://x.org/1.jpg") | columns])
    return str(dropped["reason"][0]) if dropped.height else ""


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, ""),
        ({"type": "STILLIMAGE "}, ""),
        ({"type": "", "format": "image/png"}, ""),
        ({"format": ""}, ""),
        ({"type": "Sound", "format": "audio/mpeg"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "MovingImage", "format": "image/gif"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": "text/html"}, rules.NOT_A_PHOTOGRAPH),
        ({"type": "", "format": ""}, rules.NOT_A_PHOTOGRAPH),
        ({"identifier": ""}, rules.NO_URL),
        ({"identifier": "  ", "references": " "}, rules.NO_URL),
        ({"identifier": "ftp://x.org/1.jpg"}, rules.BAD_URL_SCHEME),
        ({"identifier": "file:///etc/passwd"}, rules.BAD_URL_SCHEME),
        ({"identifier": "www.x.org/1.jpg"}, rules.BAD_URL_SCHEME),
        ({"identifier": "http://"}, rules.BAD_URL_SCHEME),
        ({"identifier": "HTTPS://x.org/1.jpg"}, ""),
        ({"gbifID": "99"}, rules.ORPHAN),
        ({"gbifID": ""}, rules.ORPHAN),
        ({"gbifID": "4"}, rules.NO_SPECIES_KEY),
    ],
)
def test_a_row_that_cannot_be_used_has_a_reason(tmp_path: Path, columns: Row, reason: str) -> None:
    assert reason_of(tmp_path, **columns) == reason


@pytest.mark.parametrize(
    ("columns", "url"),
    [
        ({"identifier": " http://x.org/with space/1.jpg "}, "http://x.org/with%20space/1.jpg"),
        ({"identifier": "http://x.org/i?imageId=7&s=1"}, "http://x.org/i?imageId=7&s=1"),
        ({"identifier": "", "references": " http://x.org/r.jpg"}, "http://x.org/r.jpg"),
        ({"identifier": "http://x.org/1.jpg", "references": "http://x.org/page"}, "http://x.org/1.jpg"),
    ],
)
def test_the_url_is_cleaned_and_keeps_its_query(tmp_path: Path, columns: Row, url: str) -> None:
    media, _ = sort_out(tmp_path, [photo("1", "") | columns])
    assert media["url"].to_list() == [url]
    assert media["image_id"].to_list() == [image_id(url)]


def test_a_photograph_keeps_its_own_rights(tmp_path: Path) -> None:
    row = photo("1", "http://x.org/1.jpg", license="CC BY", creator="Ann", rightsHolder="Museum", publisher="P")
    media, _ = sort_out(tmp_path, [row | {"references": "http://x.org/page"}])
    found = media.row(0, named=True)
    assert found | {"license": "CC BY", "creator": "Ann", "rights_holder": "Museum", "publisher": "P"} == found
    assert (found["gbif_id"], found["species_key"], found["references"]) == ("1", "11", "http://x.org/page")


def test_a_blank_behind_the_id_does_not_part_a_photograph_from_its_occurrence(tmp_path: Path) -> None:
    media, _ = sort_out(tmp_path, [photo("1 ", "http://x.org/1.jpg")])
    assert media["gbif_id"].to_list() == ["1"]


def test_of_a_url_within_a_species_the_first_by_occurrence_and_row_stays(tmp_path: Path) -> None:
    rows = [photo("2", "http://x.org/1.jpg"), photo("1", "http://x.org/1.jpg"), photo("1", " http://x.org/1.jpg")]
    media, dropped = sort_out(tmp_path, rows)
    assert media.select("row", "gbif_id").rows() == [(1, "1")]
    assert dropped.select("row", "reason").rows() == [(0, rules.DUPLICATE_URL), (2, rules.DUPLICATE_URL)]


def test_a_url_under_two_species_goes_altogether(tmp_path: Path) -> None:
    rows = [photo(i, "http://x.org/1.jpg") for i in ("1", "1", "3")] + [photo("4", "http://x.org/1.jpg")]
    media, dropped = sort_out(tmp_path, [*rows, photo("1", "http://x.org/2.jpg")])
    assert media["url"].to_list() == ["http://x.org/2.jpg"]
    assert dropped["reason"].to_list() == [rules.URL_UNDER_SEVERAL_SPECIES] * 3 + [rules.NO_SPECIES_KEY]


def test_occurrences_that_are_listed_twice_do_not_double_their_photographs(tmp_path: Path) -> None:
    files = archive_files([*OCCURRENCES, occurrence("1", "12")], [photo("1", "http://x.org/1.jpg")])
    with open_archive(write_zip(tmp_path / "a.zip", files)) as archive:
        media, dropped = settle(candidates(archive), None, 0)
    assert media["species_key"].to_list() == ["11"]
    assert dropped.is_empty()


def test_number_draws_the_same_photographs_whatever_else_there_is(tmp_path: Path) -> None:
    rows = [photo("1" if i % 3 else "3", f"http://x.org/{i}.jpg") for i in range(60)]
    media, dropped = sort_out(tmp_path, rows, number=5)
    assert Counter(media["species_key"]) == {"11": 5, "12": 5}
    assert count_reasons(dropped) == {rules.OVER_NUMBER: 50}
    fewer, _ = sort_out(tmp_path, rows[::-1], number=3)
    assert set(fewer["image_id"]) < set(media["image_id"])
    other, _ = sort_out(tmp_path, rows, number=5, seed=1)
    assert set(other["image_id"]) != set(media["image_id"])


def test_photographs_are_sorted_by_their_key_and_hosts_are_counted(tmp_path: Path) -> None:
    media, _ = sort_out(tmp_path, [photo("1", f"http://{'aAb'[i % 3]}.org/{i}.jpg") for i in range(30)])
    assert media["image_id"].to_list() == sorted(media["image_id"])
    assert count_hosts(media) == 2


@pytest.mark.parametrize("seed", range(8))
def test_every_row_of_a_messy_archive_is_kept_or_dropped_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    ids = ["1", "1 ", " 2", "3", "3\u00a0", "4", "99", "", "NA"]
    urls = [
        "",
        " ",
        "http://x.org/{}.jpg",
        " https://y.org/a b/{}.jpg?q={}",
        "ftp://x.org/{}",
        "htp:",
        "x",
        '"http://x/',
    ]
    texts = ["", '"', '"open', 'in"side"', "NA", "null", "\x00", "#", "\\", "Ménétriés 🐸", "\x1c", "a" * 5000]

    def row() -> Row:
        cells = {term: rng.choice(texts) for term in MEDIA_TERMS}
        kind = rng.choice(["StillImage", "stillimage", "Sound", "", '"StillImage'])
        url = rng.choice(urls).replace("{}", str(rng.randrange(40)))
        return cells | {
            "gbifID": rng.choice(ids),
            "type": kind,
            "identifier": url,
            "format": rng.choice(["", "image/x"]),
        }

    rows = [row() for _ in range(500)]
    end = rng.choice(["\n", "\r\n"])
    text = rng.choice(["", "\ufeff"]) + table_text(MEDIA_TERMS, rows, end=end)
    files = archive_files(OCCURRENCES, [], multimedia__txt=text + rng.choice(["", end]))
    with open_archive(write_zip(tmp_path / "a.zip", files)) as archive:
        media, dropped = settle(candidates(archive), rng.choice([None, 3]), seed)
    assert sorted([*media["row"], *dropped["row"]]) == list(range(500))
    assert media["url"].n_unique() == media.height > 0
    assert set(media["gbif_id"]) <= {"1", "2", "3"}
    assert (dropped["reason"] != "").all()
