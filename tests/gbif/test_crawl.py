import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aitax_ray import __version__
from aitax_ray.darwin_core.archive import open_archive
from aitax_ray.errors import DataError, GbifError
from aitax_ray.gbif import crawl as crawl_module
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.crawl import ANSWERS, PLAN, CrawlPlan, crawl, make_queries, search
from aitax_ray.gbif.searched import OCCURRENCE_TERMS
from aitax_ray.storage import Storage
from tests.fake_gbif import COL, DATASETS, Answer, Gbif, as_json, plain, too_many
from tests.gbif_server import Server

SEARCH = "/v1/occurrence/search"
FOLDER = "archive/search/x"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, gbif: Gbif) -> None:
    monkeypatch.setattr(crawl_module, "PAGE", 4)
    monkeypatch.setattr(crawl_module, "MAX_RECORDS", 10)
    gbif.max_offset = 10


def crawled(server: Server, client: Client, storage: Storage, *keys: str, **more: Any) -> CrawlPlan:
    given = {"datasets": [], "checklist": ""} | more
    return crawl(client, server.url, keys or ["11"], given["datasets"], given["checklist"], storage, FOLDER)


def rows(storage: Storage) -> list[dict[str, str]]:
    """The occurrences that were written."""
    texts = [storage.read_bytes(f.path).decode() for f in storage.files(FOLDER) if "occurrence-" in f.path]
    lines = [line.split("\t") for text in texts for line in text.split("\n") if line]
    return [dict(zip(OCCURRENCE_TERMS, values, strict=True)) for values in lines]


def ids(storage: Storage) -> list[int]:
    return sorted(int(row["gbifID"]) for row in rows(storage))


def pages(server: Server) -> list[tuple[int, int]]:
    """Offset and limit of every page that was asked for, but not the counts and facets."""
    asked = [a.query for a in server.requests if "offset" in a.query]
    return [(int(q["offset"][0]), int(q["limit"][0])) for q in asked]


def test_pages_follow_each_other_to_the_end(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(9)
    found = crawled(server, client, storage)
    assert (found.total, found.unreachable) == (9, 0)
    assert ids(storage) == list(range(1, 10))
    assert pages(server) == [(0, 4), (4, 4), (8, 2)]


def test_what_is_written_is_an_archive_with_its_media(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(3)
    gbif.photographed(2, 12, "Rana nigra")
    crawled(server, client, storage, "11", "12")
    with open_archive(Path(storage.full(FOLDER))) as archive:
        assert archive.is_of_gbif
        assert len(archive.core.locations) == 2
        [media] = archive.media
        texts = "".join(archive.files.get(name).read_text() for name in media.locations)
    assert [text.split("\t")[0] for text in texts.split("\n")[:-1]] == ["1", "2", "3", "4", "5"]
    assert "http://photos.example/5.jpg" in texts


def test_every_request_says_who_asks_and_for_what(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(1)
    crawled(server, client, storage)
    for asked in server.requests:
        assert asked.headers["user-agent"] == f"aitax-ray/{__version__} (+me@example.org)"
        assert (asked.query["mediaType"], asked.query["taxonKey"]) == (["StillImage"], ["11"])
        assert "checklistKey" not in asked.query


def test_a_query_that_gbif_gives_in_full_is_not_divided(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(10)
    assert crawled(server, client, storage).unreachable == 0
    assert ids(storage) == list(range(1, 11))
    assert server.paths("facet") == []
    assert max(offset + limit for offset, limit in pages(server)) == 10


def test_more_than_gbif_gives_is_divided_by_year(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(25)
    found = crawled(server, client, storage)
    assert (found.total, found.unreachable) == (25, 0)
    assert ids(storage) == list(range(1, 26))
    assert [query["year"] for query, _ in found.slices] == ["2020", "2021", "2022"]
    assert all(offset + limit <= 10 for offset, limit in pages(server))


def test_a_year_that_is_still_too_large_is_divided_further(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(18, year=2020)
    gbif.photographed(3, year=2021)
    found = crawled(server, client, storage)
    assert ids(storage) == list(range(1, 22))
    assert [(query.get("year"), query.get("datasetKey")) for query, _ in found.slices] == [
        *(("2020", dataset) for dataset in sorted(DATASETS)),
        ("2021", None),
    ]


def test_where_years_are_missing_another_term_divides_the_query(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(14)
    gbif.photographed(4, year=None)
    found = crawled(server, client, storage)
    assert found.unreachable == 0
    assert ids(storage) == list(range(1, 19))
    assert {str(query["datasetKey"]) for query, _ in found.slices} == set(DATASETS)


def test_what_cannot_be_reached_is_counted(
    server: Server, gbif: Gbif, client: Client, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    same = {"year": None, "month": 1, "datasetKey": DATASETS[0]}
    gbif.photographed(13, **same)
    found = crawled(server, client, storage)
    assert (found.total, found.unreachable) == (13, 3)
    assert len(ids(storage)) == 10
    assert "3 occurrences cannot be reached by searching: request a download instead" in caplog.messages


def test_all_that_can_be_divided_is_taken_where_some_cannot(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    same = {"month": None, "datasetKey": DATASETS[0], "country": None, "countryCode": None}
    gbif.photographed(12, **same)
    gbif.photographed(3, **same | {"year": None})
    found = crawled(server, client, storage)
    assert (found.total, found.unreachable) == (15, 3)
    assert ids(storage) == list(range(1, 13))


def test_a_failure_half_way_is_taken_up_there(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(25)
    server.routes[SEARCH] = lambda asked: Answer(status=500) if asked.query.get("year") == ["2021"] else None
    with pytest.raises(GbifError, match="answers 500"):
        crawled(server, client, storage)
    assert not storage.exists(f"{FOLDER}/meta.xml")
    server.routes.clear()
    server.requests.clear()
    found = crawled(server, client, storage)
    assert {asked.query["year"][0] for asked in server.requests} == {"2021", "2022"}  # and nothing is counted anew
    assert ids(storage) == list(range(1, 26))
    assert (found.total, found.unreachable) == (25, 0)


def test_what_is_there_already_is_not_asked_for(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(25)
    first = crawled(server, client, storage)
    server.requests.clear()
    assert crawled(server, client, storage) == first
    assert server.requests == []


class KilledError(BaseException):
    """What no one catches."""


def kill_at(request: int, server: Server, client: Client, storage: Storage, *keys: str) -> None:
    """Crawl until the request of that number, in which the run dies."""
    with pytest.MonkeyPatch.context() as patch:
        asked: list[str] = []

        def get(self: Client, url: str, *given: Any) -> Any:
            asked.append(url)
            if len(asked) == request:
                raise KilledError
            return ask(self, url, *given)

        ask = Client.json
        patch.setattr(Client, "json", get)
        with pytest.raises(KilledError):
            crawled(server, client, storage, *keys)


@pytest.mark.parametrize("request_", range(1, 12))
def test_a_plan_that_was_killed_asks_only_for_the_answers_that_are_missing(
    server: Server, gbif: Gbif, client: Client, tmp_path: Path, request_: int
) -> None:
    gbif.photographed(18, year=2020)  # more than GBIF gives for one query, also in one year
    gbif.photographed(3, year=2021)
    gbif.photographed(2, 12, "Rana nigra")
    gbif.photographed(15, 13, "Rana rubra")
    keys = ("11", "12", "13", "14")
    undisturbed, disturbed = Storage(str(tmp_path / "undisturbed")), Storage(str(tmp_path / "disturbed"))
    plan = crawled(server, client, undisturbed, *keys)
    questions = [path for path in server.paths() if "limit=0" in path]
    assert len([path for path in questions if "facet" in path]) == 3
    assert len(questions) == 7  # the others are counts
    server.requests.clear()
    kill_at(request_, server, client, disturbed, *keys)
    before = server.paths()
    server.requests.clear()
    assert crawled(server, client, disturbed, *keys) == plan
    assert [path for path in [*before, *server.paths()] if "limit=0" in path] == questions  # each once, in their order
    assert [f.path for f in disturbed.files("")] == [f.path for f in undisturbed.files("")]
    assert {f.path: disturbed.read_bytes(f.path) for f in disturbed.files("")} == {
        f.path: undisturbed.read_bytes(f.path) for f in undisturbed.files("")
    }


def test_the_answers_of_a_plan_are_appended_and_gone_when_it_is_complete(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(2)
    kill_at(3, server, client, storage, "11", "12", "13")
    [file] = storage.files(f"{FOLDER}/{ANSWERS}")
    answers = [json.loads(line) for line in storage.read_bytes(file.path).splitlines()]
    assert [answer for _, answer in answers[1:]] == [2, 0]  # after the date
    assert not storage.exists(f"{FOLDER}/{PLAN}")
    crawled(server, client, storage, "11", "12", "13")
    assert storage.exists(f"{FOLDER}/{PLAN}")
    assert not storage.exists(f"{FOLDER}/{ANSWERS}")


def test_a_resumed_plan_has_the_day_on_which_it_was_begun(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(2)
    kill_at(2, server, client, storage, "11", "12")
    [file] = storage.files(f"{FOLDER}/{ANSWERS}")
    path = Path(storage.full(file.path))
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(['["date", "2026-01-31"]', *lines[1:]]) + "\n", encoding="utf-8")
    assert crawled(server, client, storage, "11", "12").date == "2026-01-31"


@pytest.mark.parametrize("kind", ["occurrence", "multimedia"])
def test_a_slice_of_which_a_file_is_gone_is_fetched_again(
    server: Server, gbif: Gbif, client: Client, storage: Storage, kind: str
) -> None:
    gbif.photographed(3)
    crawled(server, client, storage)
    [path] = [f.path for f in storage.files(FOLDER) if kind in f.path]
    content = storage.read_bytes(path)
    storage.delete(path)
    crawled(server, client, storage)
    assert storage.read_bytes(path) == content


def test_a_busy_gbif_is_waited_for(
    server: Server, gbif: Gbif, client: Client, storage: Storage, naps: list[float]
) -> None:
    gbif.photographed(9)
    server.routes[SEARCH] = [None, None, too_many("31"), None]
    crawled(server, client, storage)
    assert naps == [31]
    assert ids(storage) == list(range(1, 10))


def test_the_keys_are_those_of_the_checklist(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(2)
    crawled(server, client, storage, "C11", checklist=COL)
    assert {asked.query["checklistKey"][0] for asked in server.requests} == {COL}
    assert {(row["speciesKey"], row["genusKey"], row["species"]) for row in rows(storage)} == {
        ("C11", "G2", "Rana alba")
    }


def test_datasets_are_asked_for_together_in_questions_that_a_url_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crawl_module, "MAX_DATASETS", 2)
    asked = list(make_queries(["1", "2"], ["a", "b", "c"], ""))
    assert [(query["taxonKey"], query["datasetKey"]) for query in asked] == [
        ("1", ["a", "b"]),
        ("1", ["c"]),
        ("2", ["a", "b"]),
        ("2", ["c"]),
    ]


def test_only_the_datasets_asked_for_come(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.photographed(24)
    found = crawled(server, client, storage, datasets=[DATASETS[0], "another"])
    assert found.total == 12
    assert ids(storage) == list(range(2, 25, 2))
    crawled(server, client, Storage(f"{storage.root}-2"), datasets=list(DATASETS))
    assert ids(Storage(f"{storage.root}-2")) == list(range(1, 25))  # more than GBIF gives for one query, and divided


def test_values_with_tabs_and_line_ends_stay_in_their_column(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    [occurrence] = gbif.photographed(1, recordedBy='Ann\t"the\nfrog\u2028woman')
    occurrence["media"][0]["title"] = "a\tb\r\nc"
    crawled(server, client, storage)
    assert [row["recordedBy"] for row in rows(storage)] == ['Ann "the frog woman']
    assert rows(storage)[0]["decimalLatitude"] == "56.278502"
    [media] = [f.path for f in storage.files(FOLDER) if "multimedia-" in f.path]
    assert storage.read_bytes(media).count(b"\n") == 1
    assert b"a b  c" in storage.read_bytes(media)


def test_a_page_that_is_shorter_than_asked_for_loses_nothing(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(9)

    def short(asked: Any) -> Answer | None:
        offset = int(asked.query.get("offset", ["-1"])[0])
        if offset < 0:
            return None
        some = gbif.occurrences[offset : offset + 2]
        return as_json({"count": 9, "endOfRecords": offset + 2 >= 9, "results": some})

    server.routes[SEARCH] = short
    crawled(server, client, storage)
    assert ids(storage) == list(range(1, 10))


def test_fewer_occurrences_than_counted_give_a_warning(
    server: Server, gbif: Gbif, client: Client, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    gbif.photographed(5)
    server.routes[SEARCH] = [as_json({"count": 7, "results": []}), None]
    crawled(server, client, storage)
    assert "GBIF gave 2 occurrences fewer than it had counted" in caplog.messages


def test_what_gbif_did_not_give_is_unreachable_whichever_run_asked_for_it(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(5)
    server.routes[SEARCH] = [as_json({"count": 7, "results": []}), None]
    assert crawled(server, client, storage).unreachable == 2
    server.requests.clear()
    assert crawled(server, client, storage).unreachable == 2
    assert server.requests == []


@pytest.mark.parametrize("body", [{"count": 9, "endOfRecords": False, "results": []}, {"count": 9, "results": []}])
def test_an_empty_page_that_is_not_the_end_leaves_its_slice_to_a_later_run(
    server: Server, gbif: Gbif, client: Client, storage: Storage, body: object
) -> None:
    gbif.photographed(9)
    server.routes[SEARCH] = lambda asked: as_json(body) if asked.query.get("offset") == ["4"] else None
    with pytest.raises(GbifError, match="GBIF gives an empty page after 4 of 9 occurrences: run the same command"):
        crawled(server, client, storage)
    server.routes.clear()
    assert crawled(server, client, storage).unreachable == 0
    assert ids(storage) == list(range(1, 10))


def test_a_gbif_whose_pages_do_not_end_is_left_at_the_limit(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(4)
    server.routes[SEARCH] = as_json({"count": 4, "endOfRecords": False, "results": gbif.occurrences})
    crawled(server, client, storage)
    assert len(pages(server)) == 3


def test_a_long_crawl_warns_and_says_what_is_better(
    server: Server, gbif: Gbif, client: Client, storage: Storage, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(crawl_module, "LONG_CRAWL_S", 1)
    gbif.photographed(9)
    crawled(server, client, storage)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "GBIF asks to request a download instead: give an account (GBIF_USER, GBIF_PWD)" in warning


def test_a_long_count_warns_before_the_first_question(
    server: Server, client: Client, storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crawl_module, "LONG_CRAWL_S", 1)
    server.routes[SEARCH] = plain("not today", 400)
    with pytest.raises(GbifError, match="not today"):
        crawled(server, client, storage, "11", "12")
    assert "counting the occurrences with photographs takes about 0.0 h, and GBIF asks to request" in caplog.text


def test_the_questions_count_for_how_long_a_crawl_takes(
    server: Server, gbif: Gbif, client: Client, storage: Storage, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(crawl_module, "LONG_CRAWL_S", 3)
    gbif.photographed(9)
    crawled(server, client, storage)  # a question and three pages
    assert "paging through 9 occurrences takes about 0.0 h" in caplog.text
    caplog.clear()
    crawled(server, client, storage)
    assert caplog.text == ""  # nothing is left to ask for


def test_taxa_without_photographs_are_an_error_and_nothing_is_kept(
    server: Server, client: Client, storage: Storage
) -> None:
    with pytest.raises(DataError, match="GBIF has no photographs of these 2 taxa: check the keys and --checklist"):
        crawled(server, client, storage, "11", "12")
    assert storage.files("archive") == []


def test_a_taxon_without_photographs_beside_others_takes_no_page(
    server: Server, gbif: Gbif, client: Client, storage: Storage
) -> None:
    gbif.photographed(2)
    crawled(server, client, storage, "12", "11")
    assert len(pages(server)) == 1
    assert ids(storage) == [1, 2]


def test_a_refusal_has_gbifs_reason(server: Server, client: Client, storage: Storage) -> None:
    server.routes[SEARCH] = plain("Invalid checklist key", 400)
    with pytest.raises(GbifError, match=r"answers 400 \(Invalid checklist key\) to the search for .*taxonKey=11"):
        crawled(server, client, storage)


@pytest.mark.parametrize(
    "body",
    [
        ["x"],
        {"count": "many"},
        {"count": 1e400},
        {"count": 3, "results": {}},
        {"count": 3, "results": [1]},
        {"count": 3, "results": [{"media": "none"}]},
        {"count": 3, "results": [{"media": [None]}]},
        {"count": 100, "results": [], "facets": {}},
        {"count": 100, "results": [], "facets": [{"counts": [3]}]},
        {"count": 100, "results": [], "facets": [{"counts": [{"name": 3, "count": 3}]}]},
        {"count": 100, "results": [], "facets": [{"counts": [{"name": "a", "count": "3"}]}]},
    ],
)
def test_an_answer_of_another_shape_is_an_error_in_one_sentence(
    server: Server, client: Client, storage: Storage, body: object
) -> None:
    server.routes[SEARCH] = as_json(body)
    with pytest.raises(GbifError, match="GBIF answers"):
        crawled(server, client, storage)


def test_the_fake_has_gbifs_limit(server: Server, gbif: Gbif, client: Client) -> None:
    with pytest.raises(GbifError, match="Max offset of 10 exceeded"):
        search(client, f"{server.url}{SEARCH}", {"taxonKey": "11"}, limit=4, offset=8)
