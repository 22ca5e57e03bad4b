from typing import Any

import pytest

from aitax_ray.errors import ArchiveError, GbifError, SettingsError
from aitax_ray.gbif.api import BACKBONE, ENDED, POLL_S, DownloadRecord, look_up, parse_doi, parse_key, resolve
from aitax_ray.gbif.client import Client
from tests.fake_gbif import COL, DOI, KEY, Gbif, as_json
from tests.gbif_server import Server

BY_KEY = f"/v1/occurrence/download/{KEY}"


@pytest.mark.parametrize(
    "spelling",
    [
        "10.15468/dl.hx3uzz",
        " https://doi.org/10.15468/DL.HX3UZZ ",
        "http://dx.doi.org/10.15468/dl.hx3uzz/",
        "doi:10.15468/dl.hx3uzz",
        "DOI: 10.15468/dl.hx3uzz.",
    ],
)
def test_a_doi_may_be_spelled_in_every_usual_way(spelling: str) -> None:
    assert parse_doi(spelling) == "10.15468/dl.hx3uzz"


@pytest.mark.parametrize("text", ["", "dl.hx3uzz", "https://www.gbif.org/occurrence/download/1", "10.15468/a b"])
def test_what_is_no_doi_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--doi: .* is no DOI; .*10\.15468/dl\.4gbcs6"):
        parse_doi(text)


def test_a_key_may_be_the_address_of_its_page() -> None:
    assert parse_key("https://www.gbif.org/occurrence/download/0000001-000000000000001") == KEY
    with pytest.raises(SettingsError, match="--download-key"):
        parse_key("not a key")


@pytest.mark.parametrize("name", [DOI, KEY])
def test_one_anonymous_call_resolves_a_doi_or_a_key(server: Server, gbif: Gbif, client: Client, name: str) -> None:
    gbif.download(size=38857)
    found = resolve(client, server.url + "/", name, wait_s=0)
    assert server.paths() == [f"/v1/occurrence/download/{name}"]
    assert "authorization" not in server.requests[0].headers
    assert (found.key, found.doi, found.status) == (KEY, DOI, "SUCCEEDED")
    assert found.download_link == f"{server.url}/v1/occurrence/download/request/{KEY}.zip"
    assert found.checklist_key == COL
    assert found.predicate is not None
    assert found.predicate["value"] == "1"
    assert (found.size, found.total_records) == (38857, 3)


@pytest.mark.parametrize(
    ("request_", "checklist"),
    [
        ({"format": "DWCA"}, BACKBONE),
        ({"format": "DWCA", "checklistKey": COL}, COL),
        ({"predicate": {"type": "and", "predicates": [{"key": "YEAR"}, {"checklistKey": COL}]}}, COL),
        ({"predicate": {"type": "not", "predicate": {"checklistKey": None}}}, BACKBONE),
    ],
)
def test_the_checklist_is_the_one_that_the_request_names_anywhere(
    server: Server, gbif: Gbif, client: Client, request_: dict[str, Any], checklist: str
) -> None:
    gbif.download(request=request_)
    assert look_up(client, server.url, KEY).checklist_key == checklist


def test_a_predicate_may_be_as_deep_as_json(server: Server, gbif: Gbif, client: Client) -> None:
    predicate: dict[str, Any] = {"type": "equals", "checklistKey": COL}
    for _ in range(300):
        predicate = {"type": "not", "predicate": predicate}
    gbif.download(request={"predicate": predicate})
    assert look_up(client, server.url, KEY).checklist_key == COL


def test_an_unknown_download_says_which_doi_would_do(server: Server, client: Client) -> None:
    with pytest.raises(
        GbifError, match=r"GBIF knows no download 10\.15468/other.*the DOI of a dataset .* cannot be used"
    ):
        resolve(client, server.url, "10.15468/other", wait_s=0)
    with pytest.raises(GbifError, match=r"GBIF knows no download 1-2: .*check the key"):
        resolve(client, server.url, "1-2", wait_s=0)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("FAILED", "it failed at GBIF"),
        ("KILLED", "GBIF stopped it"),
        ("CANCELLED", "its owner cancelled it"),
        ("SUSPENDED", "GBIF suspended it"),
    ],
)
def test_a_download_without_file_says_why_and_what_to_do(
    server: Server, gbif: Gbif, client: Client, status: str, why: str
) -> None:
    gbif.download(statuses=(status,))
    with pytest.raises(GbifError, match=f"{why}. Open https://www.gbif.org/occurrence/download/{KEY}, run its query"):
        resolve(client, server.url, KEY, wait_s=0)


def test_an_erased_download_names_the_command_that_requests_it_again(
    server: Server, gbif: Gbif, client: Client
) -> None:
    gbif.download(statuses=("FILE_ERASED",))
    with pytest.raises(GbifError, match=r"its file was erased, .* Add --request-again, and GBIF makes it again"):
        resolve(client, server.url, DOI, wait_s=0)


def test_an_erased_download_without_query_cannot_be_requested_again(server: Server, gbif: Gbif, client: Client) -> None:
    gbif.download(statuses=("FILE_ERASED",), request={"format": "DWCA"})
    for again in (None, lambda record: "0000002-1"):
        with pytest.raises(GbifError, match=r"GBIF did not keep its query: run the query on gbif\.org") as raised:
            resolve(client, server.url, DOI, 3600, again)
        assert "--request-again" not in str(raised.value)


def test_an_erased_download_is_asked_for_anew_once(server: Server, gbif: Gbif, client: Client) -> None:
    gbif.download(statuses=("FILE_ERASED",))
    gbif.download("0000002-1", statuses=("PREPARING", "SUCCEEDED"))
    asked: list[DownloadRecord] = []

    def again(record: DownloadRecord) -> str:
        asked.append(record)
        return "0000002-1"

    assert resolve(client, server.url, DOI, 3600, again).key == "0000002-1"
    assert [record.key for record in asked] == [KEY]
    gbif.download("0000002-1", statuses=("FILE_ERASED",))
    with pytest.raises(GbifError, match="GBIF erased the file of the new download 0000002-1 as well"):
        resolve(client, server.url, DOI, 3600, again)
    assert len(asked) == 2


def test_a_status_that_nobody_knows_is_no_success(server: Server, gbif: Gbif, client: Client) -> None:
    gbif.download(statuses=("HIBERNATING",))
    with pytest.raises(GbifError, match="is HIBERNATING at GBIF, so it cannot be fetched"):
        resolve(client, server.url, KEY, wait_s=0)


def test_every_status_of_gbif_is_known() -> None:
    assert set(ENDED) == {"FILE_ERASED", "KILLED", "FAILED", "CANCELLED", "SUSPENDED"}


def test_a_download_in_another_format_is_refused_before_it_is_fetched(
    server: Server, gbif: Gbif, client: Client
) -> None:
    gbif.download(request={"format": "SIMPLE_CSV"})
    with pytest.raises(ArchiveError, match="of format SIMPLE_CSV, which holds no photographs"):
        resolve(client, server.url, KEY, wait_s=0)


def test_a_download_in_preparation_is_waited_for(
    server: Server, gbif: Gbif, client: Client, naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gbif.download(statuses=("PREPARING", "RUNNING", "SUCCEEDED"))
    assert resolve(client, server.url, KEY, wait_s=3600).status == "SUCCEEDED"
    assert naps == [POLL_S, POLL_S]
    assert f"download {KEY} is PREPARING at GBIF; looking again in 30 s" in caplog.messages
    assert f"download {KEY} is RUNNING at GBIF; looking again in 30 s" in caplog.messages


def test_waiting_is_bounded(server: Server, gbif: Gbif, client: Client, naps: list[float]) -> None:
    gbif.download(statuses=("RUNNING",))
    with pytest.raises(GbifError, match=r"still RUNNING at GBIF after 45 s: .* --wait-s"):
        resolve(client, server.url, KEY, wait_s=45)
    assert naps == [30, 15]


@pytest.mark.parametrize(
    "change",
    [
        {"key": 7},
        {"key": None},
        {"status": None},
        {"status": ["SUCCEEDED"]},
        {"size": "many"},
        {"size": 1e400},
        {"totalRecords": [3]},
        {"request": ["DWCA"]},
        {"request": {"predicate": "all"}},
        {"request": {"checklistKey": 5}},
        {"downloadLink": {"href": "x"}},
    ],
)
def test_a_record_of_another_shape_is_an_error_in_one_sentence(
    server: Server, gbif: Gbif, client: Client, change: dict[str, Any]
) -> None:
    server.routes[BY_KEY] = as_json(gbif.download() | {"status": "SUCCEEDED"} | change)
    with pytest.raises(GbifError, match="check --gbif-url, or try later"):
        resolve(client, server.url, KEY, wait_s=0)


@pytest.mark.parametrize("body", [["hello"], "hello", 3, None])
def test_an_answer_of_another_kind_points_at_the_address(server: Server, client: Client, body: object) -> None:
    server.routes[BY_KEY] = as_json(body)
    with pytest.raises(GbifError, match="check --gbif-url"):
        resolve(client, server.url, KEY, wait_s=0)
