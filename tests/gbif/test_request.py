import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif import request
from aitax_ray.gbif.account import Account
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.request import REQUESTED, build_predicate, build_search, request_download, request_once
from aitax_ray.storage import Storage
from tests.fake_gbif import COL, Answer, Gbif, plain, too_many
from tests.gbif_server import Server

ANN = Account("ann", "s3cr3t-word", "ann@example.org")
PREDICATE = {"type": "equals", "key": "TAXON_KEY", "value": "1"}
PATH = "/v1/occurrence/download/request"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture
def account(gbif: Gbif, monkeypatch: pytest.MonkeyPatch) -> Account:
    gbif.accounts["ann"] = ANN.password
    monkeypatch.setenv("GBIF_USER", ANN.user)
    monkeypatch.setenv("GBIF_PWD", ANN.password)
    return ANN


def test_photographs_of_taxa_are_asked_for_with_their_checklist() -> None:
    assert build_predicate(["Q2M4", "5WZLF"], ["d1"], COL) == {
        "type": "and",
        "predicates": [
            {"type": "in", "key": "TAXON_KEY", "values": ["Q2M4", "5WZLF"], "checklistKey": COL},
            {"type": "in", "key": "DATASET_KEY", "values": ["d1"]},
            {"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage"},
        ],
    }
    assert "DATASET_KEY" not in json.dumps(build_predicate(["1"], [], ""))
    assert "checklistKey" not in json.dumps(build_predicate(["1"], [], ""))


def all_of(*predicates: dict[str, Any]) -> dict[str, Any]:
    return {"type": "and", "predicates": list(predicates)}


STILL = {"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage"}


@pytest.mark.parametrize(
    ("predicate", "found"),
    [
        (PREDICATE, {"taxonKey": ["1"]}),
        (build_predicate(["1", "2"], ["d"], COL), {"taxonKey": ["1", "2"], "datasetKey": ["d"]}),
        (
            all_of(all_of(PREDICATE, STILL), {"type": "equals", "key": "HAS_COORDINATE", "value": True}),
            {"taxonKey": ["1"], "hasCoordinate": ["true"]},
        ),
        (
            all_of({"type": "in", "key": "BASIS_OF_RECORD", "values": ["A", "B"]}, PREDICATE),
            {"basisOfRecord": ["A", "B"], "taxonKey": ["1"]},
        ),
        ({"type": "equals", "key": "MEDIA_TYPE", "value": "Sound"}, None),
        ({"type": "not", "predicate": PREDICATE}, None),
        ({"type": "or", "predicates": [PREDICATE, STILL]}, None),
        (all_of(PREDICATE, {"type": "within", "geometry": "POLYGON ((0 0, 0 1, 1 1, 0 0))"}), None),
        (all_of(PREDICATE, {"type": "greaterThan", "key": "YEAR", "value": "2000"}), None),
        (all_of(PREDICATE, PREDICATE | {"value": "2"}), None),  # both, where the search takes either
        ({"type": "equals", "key": "GBIF_ID", "value": "1"}, None),
        ({"type": "in", "key": "TAXON_KEY", "values": [str(key) for key in range(1000)]}, None),
        ({}, None),
    ],
)
def test_a_simple_query_can_be_put_to_the_search(predicate: dict[str, Any], found: dict[str, list[str]] | None) -> None:
    assert build_search(predicate, []) == (None if found is None else found | {"mediaType": ["StillImage"]})


def test_the_datasets_that_are_kept_narrow_the_search() -> None:
    wide = build_search(PREDICATE, ["a", "b"])
    narrow = build_search(build_predicate(["1"], ["b", "c"], ""), ["a", "b"])
    assert wide is not None
    assert narrow is not None
    assert (wide["datasetKey"], narrow["datasetKey"]) == (["a", "b"], ["b"])
    assert build_search(build_predicate(["1"], ["c"], ""), ["a", "b"]) is None


def test_more_keys_than_gbif_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "MAX_VALUES", 3)
    assert build_predicate(["1", "2"], ["d"], "")
    with pytest.raises(SettingsError, match="GBIF takes 3 keys in one request, these are 4"):
        build_predicate(["1", "2"], ["d", "e"], "")


def test_a_request_gives_the_key_of_a_download(server: Server, gbif: Gbif, client: Client) -> None:
    gbif.accounts["ann"] = ANN.password
    assert request_download(client, server.url, ANN, PREDICATE, COL) == "0000001-000000000000009"
    [asked] = server.posts()
    assert asked.path == PATH
    assert asked.json == {
        "creator": "ann",
        "notificationAddresses": ["ann@example.org"],
        "sendNotification": False,
        "format": "DWCA",
        "checklistKey": COL,
        "predicate": PREDICATE,
    }


@pytest.mark.parametrize("account", [ANN, Account("bob", "x"), Account("ann", "wrong")])
def test_an_account_that_gbif_does_not_know_is_an_error(server: Server, client: Client, account: Account) -> None:
    with pytest.raises(GbifError, match=f"does not accept the account of {account.user}: set GBIF_USER") as raised:
        request_download(client, server.url, account, PREDICATE, "")
    assert account.password not in str(raised.value)
    assert len(server.requests) == 1


def test_a_refusal_has_gbifs_reason(server: Server, gbif: Gbif, client: Client) -> None:
    gbif.accounts["ann"] = ANN.password
    with pytest.raises(GbifError, match=r"GBIF answers 400 \(The predicate may not be null\) to the request"):
        request_download(client, server.url, ANN, {}, "")


@pytest.mark.parametrize("answer", [too_many(None), plain("Enhance your calm", 420)])
def test_a_user_with_too_many_downloads_is_asked_to_wait(server: Server, client: Client, answer: Answer) -> None:
    server.routes[PATH] = answer
    with pytest.raises(GbifError, match="no further download for you now: wait until those you asked for are ready"):
        request_download(client, server.url, ANN, PREDICATE, "")
    assert len(server.requests) == 1


def test_a_busy_gbif_is_asked_again_when_it_says(server: Server, gbif: Gbif, client: Client, naps: list[float]) -> None:
    gbif.accounts["ann"] = ANN.password
    server.routes[PATH] = [too_many("3"), None]
    assert request_download(client, server.url, ANN, PREDICATE, "")
    assert naps == [3]
    assert len(gbif.downloads) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>", 502),
        Answer(b"", 201),
        Answer(b"<html>hello</html>", 200),
        Answer(b"\xff\xfe", 201),
        Answer(b"0000001-000000000000009", 201, stop_after=5),
    ],
)
def test_an_answer_without_key_sends_the_user_to_look(server: Server, client: Client, answer: Answer) -> None:
    server.routes[PATH] = answer
    with pytest.raises(GbifError, match=r"look on https://www\.gbif\.org/user/download whether it took it"):
        request_download(client, server.url, ANN, PREDICATE, "")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_password_does_not_go_to_another_host(
    server: Server, other_server: Server, client: Client, status: int
) -> None:
    server.routes[PATH] = Answer(b"", status, {"Location": f"{other_server.url}/take"})
    other_server.routes["/take"] = Answer(b"0000001-000000000000009", 201)
    request_download(client, server.url, ANN, PREDICATE, "")
    assert "authorization" in server.requests[0].headers
    [asked] = other_server.requests
    assert "authorization" not in asked.headers
    assert ANN.password.encode() not in asked.body


def test_the_same_request_is_sent_once(
    server: Server, gbif: Gbif, client: Client, storage: Storage, account: Account
) -> None:
    key = request_once(storage, client, server.url, PREDICATE, COL)
    assert request_once(storage, client, server.url, PREDICATE, COL) == key
    assert len(server.posts()) == 1
    assert request_once(storage, client, server.url, PREDICATE, "") != key
    assert len(server.posts()) == 2
    assert list(storage.read_json(REQUESTED).values()) == list(gbif.downloads)


@pytest.mark.parametrize("status", ["KILLED", "FILE_ERASED", "CANCELLED", "FAILED"])
def test_a_download_that_is_over_is_asked_for_again(
    server: Server, gbif: Gbif, client: Client, storage: Storage, account: Account, status: str
) -> None:
    key = request_once(storage, client, server.url, PREDICATE, COL)
    gbif.downloads[key]["status"] = [status]
    other = request_once(storage, client, server.url, PREDICATE, COL)
    assert other != key
    assert request_once(storage, client, server.url, PREDICATE, COL) == other
    assert len(server.posts()) == 2


def test_without_account_a_request_says_how_to_give_one(server: Server, client: Client, storage: Storage) -> None:
    with pytest.raises(GbifError, match="takes your account there: set GBIF_USER and GBIF_PWD"):
        request_once(storage, client, server.url, PREDICATE, "")
    assert server.requests == []


def test_the_password_is_in_no_log_and_in_no_file(
    server: Server, client: Client, storage: Storage, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, name)
    request_once(storage, client, server.url, PREDICATE, "")
    coded = server.posts()[0].headers["authorization"].removeprefix("Basic ")
    logged = "\n".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records)
    files = b"".join(path.read_bytes() for path in Path(storage.root).rglob("*") if path.is_file())
    assert "asked GBIF for download" in logged
    assert files
    for secret in (account.password, coded):
        assert secret not in logged
        assert secret.encode() not in files
