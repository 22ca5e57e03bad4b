from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitax_ray import schemas
from aitax_ray.criteria import Criteria
from aitax_ray.database import open_database
from aitax_ray.licenses import Policy
from aitax_ray.manifest import decide as module
from aitax_ray.manifest.decide import Rules, decide_rows
from aitax_ray.takedowns import Kind, Request
from tests.archives import Sorted, sort_out, sort_out_download
from tests.gbif_download import MEDIA_TERMS, Row, archive_files, occurrence, photo, table_text

OCCURRENCES = [occurrence("1"), occurrence("2"), occurrence("3", "12"), occurrence("4", "", taxonRank="GENUS")]
LICENSES = ["CC0", "CC_BY_4_0", "cc by-nc", "All rights reserved", ""]


def url(name: object) -> str:
    return f"http://x.org/{name}.jpg"


def keep(rows: list[Row], **rules: object) -> Sorted:
    return sort_out_download(OCCURRENCES, rows, rules=Rules(**rules))  # type: ignore[arg-type]


def many() -> list[Row]:
    """Rows of which some go for every reason that there is in this module."""
    rows = [photo("13"[i % 3 == 0], url(i), license=LICENSES[i % 5]) for i in range(90)]
    rows += [photo("2", url(i), license="CC0") for i in range(0, 90, 7)]
    return [*rows, photo("99", url("a")), photo("4", url("b")), photo("1", "")]


def test_of_a_url_within_a_species_the_first_by_occurrence_and_row_stays() -> None:
    rows = [photo("2", url(1), creator="a"), photo("1", url(1), creator="b"), photo("1", f" {url(1)}", creator="c")]
    found = keep(rows)
    assert found.media.select("gbif_id", "creator").rows() == [("1", "b")]
    assert found.reasons == {0: module.DUPLICATE_URL, 2: module.DUPLICATE_URL}


def test_a_url_under_two_species_goes_altogether() -> None:
    rows = [photo(i, url(1)) for i in ("1", "1", "3", "4")]
    found = keep([*rows, photo("1", url(2))])
    assert found.media["url"].to_list() == [url(2)]
    assert list(found.reasons.values()) == [module.URL_UNDER_SEVERAL_SPECIES] * 3 + ["no_species_key"]


def withdraw(kind: Kind, value: str) -> Criteria:
    return Criteria([Request(kind=kind, value=value, requested=datetime(2026, 1, 1, tzinfo=UTC))])


@pytest.mark.parametrize(
    "criteria",
    [
        withdraw("image", schemas.image_id(url(1))),
        withdraw("url", "https://x.org/1.jpg#page"),
        withdraw("creator", "anna MUSTER"),
        withdraw("occurrence", "1"),
    ],
)
def test_a_withdrawn_photograph_is_dropped_with_all_its_rows_and_its_url(criteria: Criteria) -> None:
    """Whichever of its rows has what the request is about."""
    rows = [photo("1", url(1), creator="Anna Muster"), photo("2", url(1)), photo("3", url(1)), photo("2", url(2))]
    found = keep(rows, withdrawn=criteria)
    assert found.media["url"].to_list() == [url(2)]
    assert found.reasons == {0: "withdrawn", 1: "withdrawn", 2: "withdrawn"}
    assert found.dropped["url"].to_list() == ["", "", ""]


def test_rows_without_a_url_are_not_taken_for_one_photograph() -> None:
    found = keep([photo("1", ""), photo("2", ""), photo("2", url(2))], withdrawn=withdraw("occurrence", "1"))
    assert found.reasons == {0: "no_url", 1: "no_url"}


def test_withdrawn_photographs_take_no_place_of_others() -> None:
    rows = [photo("1", url(i)) for i in range(9)]
    first = keep(rows, number=3).media["image_id"].to_list()
    found = keep(rows, number=3, withdrawn=withdraw("image", first[0]))
    assert found.media.height == 3
    assert set(first[1:]) < set(found.media["image_id"])


def test_the_dropped_rows_say_what_they_were() -> None:
    found = keep([photo("3", "ftp://x.org/1"), photo("1", url(1)), photo("9", url(2))])
    assert found.dropped.sort("row").rows() == [
        (0, "3", "ftp://x.org/1", "12", "bad_url_scheme"),
        (2, "9", url(2), "", "orphan"),
    ]


@pytest.mark.parametrize(
    ("policy", "kept"), [("open", ["CC-BY-4.0", "CC0-1.0"]), ("non-commercial", ["CC-BY-4.0", "CC-BY-NC", "CC0-1.0"])]
)
def test_a_policy_goes_by_the_photographs_own_licence_and_is_counted(policy: Policy, kept: list[str]) -> None:
    rows = [photo("1", url(i), license=text) for i, text in enumerate(LICENSES)]
    found = keep(rows, policy=policy)
    assert sorted(found.media["license_id"]) == kept
    assert found.counts == {"": len(kept), module.LICENSE_NOT_ADMITTED: 5 - len(kept)}
    assert keep(rows, policy="any").counts == {"": 5}


def test_of_the_rows_of_a_url_one_with_a_licence_that_is_admitted_stays() -> None:
    rows = [photo("1", url(1), license=""), photo("1", url(1), license="CC0"), photo("2", url(1), license="CC0")]
    found = keep(rows, policy="open")
    assert found.media.select("gbif_id", "license").rows() == [("1", "CC0")]
    assert found.reasons == {0: module.LICENSE_NOT_ADMITTED, 2: module.DUPLICATE_URL}
    assert keep(rows).media["license"].to_list() == [""]


def test_a_licence_that_is_not_admitted_still_shows_that_a_url_is_of_several_species() -> None:
    rows = [photo("1", url(1), license="CC0"), photo("3", url(1), license="")]
    assert keep(rows, policy="open").counts == {module.URL_UNDER_SEVERAL_SPECIES: 2}


def test_number_draws_the_same_photographs_whatever_else_there_is() -> None:
    rows = [photo("1" if i % 3 else "3", url(i)) for i in range(60)]
    found = keep(rows, number=5)
    assert Counter(found.media["species_key"]) == {"11": 5, "12": 5}
    assert found.counts == {"": 10, module.OVER_NUMBER: 50}
    fewer = keep(rows[::-1], number=3)
    assert set(fewer.media["image_id"]) < set(found.media["image_id"])
    gone = found.media["url"][0]
    without = keep([row for row in rows if row["identifier"] != gone], number=5)
    assert len(set(without.media["url"]) - set(found.media["url"])) == 1
    assert set(keep(rows, number=5, seed=1).media["image_id"]) != set(found.media["image_id"])


@pytest.mark.parametrize("number", [20, 40, 41])
def test_a_species_with_no_more_than_the_number_keeps_all(number: int) -> None:
    found = keep([photo("1" if i % 3 else "3", url(i)) for i in range(60)], number=number)
    assert Counter(found.media["species_key"]) == {"11": min(number, 40), "12": 20}


def test_number_counts_what_the_other_rules_left() -> None:
    rows = [photo("1", url(i // 2), license=LICENSES[i % 5]) for i in range(100)]
    found = keep(rows, number=10, policy="open")
    assert found.counts[""] == 10
    assert set(found.media["license_id"]) == {"CC0-1.0", "CC-BY-4.0"}


def test_photographs_are_sorted_by_their_key_over_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_PER_BUCKET", 4)
    media = keep(many()).media
    assert media["image_id"].to_list() == sorted(media["image_id"])


def test_every_file_of_photographs_has_the_schema_also_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_PER_BUCKET", 1)
    found = keep([photo("1", url(1)), photo("1", "ftp://x.org/1"), photo("9", url(2)), photo("1", url(3))])
    assert len(found.schemas) > 2 >= found.media.height
    assert all(schema.equals(schemas.MEDIA) for schema in found.schemas)


@pytest.mark.parametrize("rules", [{}, {"policy": "open"}, {"number": 2, "policy": "non-commercial"}])
def test_many_buckets_give_the_same_as_one(monkeypatch: pytest.MonkeyPatch, rules: dict[str, object]) -> None:
    def result() -> list[object]:
        found = keep(many(), **rules)
        return [
            found.counts,
            found.reasons,
            found.media.rows(),
            found.occurrences.sort("gbif_id").rows(),
            found.taxa.rows(),
        ]

    whole = result()
    assert {module.URL_UNDER_SEVERAL_SPECIES, module.DUPLICATE_URL} <= set(whole[0])  # type: ignore[call-overload]
    for rows_per_bucket in (40, 9):
        monkeypatch.setattr(module, "ROWS_PER_BUCKET", rows_per_bucket)
        monkeypatch.setattr(module, "ROWS_PER_BATCH", 16)
        assert result() == whole


def test_a_row_that_is_lost_is_an_error(tmp_path: Path) -> None:
    with open_database(tmp_path) as database:
        columns = ", ".join(
            f"'' AS \"{name}\""
            for name in (
                "gbif_id",
                "license",
                "creator",
                "rights_holder",
                "publisher",
                "dataset_key",
                "format",
                "references",
                "title",
                "description",
            )
        )
        database.execute(
            f"CREATE VIEW candidate AS SELECT 0 AS row, 'u' AS url, sha1('u') AS image_id, 0 AS occurrence_row, "
            f"'s' AS species_key, false AS url_from_references, '' AS reason, {columns}"
        )
        with pytest.raises(RuntimeError, match="of 2 media rows 1 were kept or dropped"):
            decide_rows(database, Rules(), 2, tmp_path)


# Text with what makes readers stumble, and ids and URLs that go wrong in every way.
IDS = st.sampled_from(["1", "1 ", " 2", "3", "3\u00a0", "4", "99", "", "NA"])
URLS = st.one_of(
    st.sampled_from(["", " ", "ftp://x.org/1", "htp:", "x", '"http://x/', "http://x.org/1.jpg"]),
    st.integers(0, 9).map(lambda i: f" https://y.org/a b/{i}.jpg?q={i}"),
)
KINDS = st.sampled_from(["StillImage", "stillimage", "Sound", "", '"StillImage'])
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), max_size=5)
AWKWARD = st.sampled_from(["", '"', '"open', 'in"side"', "NA", "null", "\x00", "#", "\\", "CC0", "cc by-nc", "\x1c"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"gbifID": IDS, "type": KINDS, "identifier": URLS, "references": URLS, "title": TEXTS, "license": AWKWARD}
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=40)
@given(
    rows=ROWS,
    policy=st.sampled_from(["open", "non-commercial", "any"]),
    number=st.sampled_from([None, 1, 3]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    rows_per_bucket=st.sampled_from([250_000, 10]),
)
def test_every_row_is_kept_or_dropped_once(
    rows: list[Row], policy: Policy, number: int | None, end: str, mark: str, rows_per_bucket: int
) -> None:
    text = mark + table_text(MEDIA_TERMS, [row | {"rightsHolder": "x"} for row in rows], end=end)
    files = archive_files(OCCURRENCES, [], multimedia__txt=text + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_PER_BUCKET", rows_per_bucket)
        found = sort_out(files, rules=Rules(policy, number))
    assert found.num_rows == found.counts.total() == len(rows)
    assert found.counts[""] == found.media.height
    assert found.media["url"].n_unique() == found.media.height
    assert set(found.media["gbif_id"]) <= {"1", "2", "3"}
    kept = set(range(len(rows))) - set(found.dropped["row"])
    assert found.dropped["row"].n_unique() == found.dropped.height
    assert len(kept) == found.media.height
    assert Counter(found.dropped["reason"]) == Counter({k: n for k, n in found.counts.items() if k})
    assert "" not in set(found.dropped["reason"])
    by_species = Counter(found.media["species_key"])
    assert number is None or all(n <= number for n in by_species.values())
    num_images = found.taxa.select("species_key", pl.col("num_images")).rows()
    assert dict(num_images) == by_species
    assert found.occurrences.height == found.taxa["num_occurrences"].sum()
