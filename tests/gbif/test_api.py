import json
from collections.abc import Callable
from typing import Any

import pytest

from aitax_ray.errors import ArchiveError, GbifError, SettingsError
from aitax_ray.gbif.api import OVER, POLL_S, parse_doi, parse_key, resolve
from aitax_ray.gbif.client import Client

from .conftest import Answer, Server

Record = Callable[..., dict[str, Any]]
BY_DOI = "/v1/occurrence/download/10.15468/dl.frogs1"
BY_KEY = "/v1/occurrence/download/0000001-000000000000001"


def as_json(body: object) -> Answer:
    return Answer(json.dumps(body).encode())


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
    assert parse_key("https://www.gbif.org/occurrence/download/0000001-000000000000001") == "0000001-000000000000001"
    with pytest.raises(SettingsError, match="--download-key"):
        parse_key("not a key")


@pytest.mark.parametrize(("name", "path"), [("10.15468/dl.frogs1", BY_DOI), ("0000001-000000000000001", BY_KEY)])
def test_one_call_resolves_a_doi_or_a_key(server: Server, client: Client, record: Record, name: str, path: str) -> None:
    server.routes[path] = as_json(record(size=38857))
    found = resolve(client, server.url + "/", name, wait_s=0)
    assert server.paths() == [path]
    assert found.key == "0000001-000000000000001"
    assert found.doi == "10.15468/dl.frogs1"
    assert found.download_link == f"{server.url}/file.zip"
    assert found.checklist_key == "7ddf754f-d193-4cc9-b351-99906754a03b"
    assert found.predicate == {"type": "equals", "key": "TAXON_KEY", "value": "1"}
    assert (found.size, found.total_records) == (38857, 3)


def test_an_unknown_download_says_which_doi_would_do(server: Server, client: Client) -> None:
    with pytest.raises(GbifError, match=r"GBIF knows no download 10\.15468/other.*a dataset's .* does not do"):
        resolve(client, server.url, "10.15468/other", wait_s=0)


@pytest.mark.parametrize("status", OVER)
def test_a_download_without_file_says_why_and_what_to_do(
    server: Server, client: Client, record: Record, status: str
) -> None:
    server.routes[BY_KEY] = as_json(record(status=status))
    with pytest.raises(GbifError, match=f"{OVER[status]}: open https://www.gbif.org/occurrence/download/0000001-"):
        resolve(client, server.url, "0000001-000000000000001", wait_s=0)


def test_a_download_in_another_format_is_refused_before_it_is_fetched(
    server: Server, client: Client, record: Record
) -> None:
    server.routes[BY_KEY] = as_json(record(request={"format": "SIMPLE_CSV"}))
    with pytest.raises(ArchiveError, match="of format SIMPLE_CSV, which holds no photographs"):
        resolve(client, server.url, "0000001-000000000000001", wait_s=0)


def test_a_download_in_preparation_is_waited_for(
    server: Server, client: Client, record: Record, naps: list[float]
) -> None:
    server.routes[BY_KEY] = [as_json(record(status=s)) for s in ("PREPARING", "RUNNING", "SUCCEEDED")]
    assert resolve(client, server.url, "0000001-000000000000001", wait_s=3600).status == "SUCCEEDED"
    assert naps == [POLL_S, POLL_S]


def test_waiting_is_bounded(server: Server, client: Client, record: Record, naps: list[float]) -> None:
    server.routes[BY_KEY] = as_json(record(status="RUNNING"))
    with pytest.raises(GbifError, match=r"still RUNNING at GBIF after 45 s: .* --wait-s"):
        resolve(client, server.url, "0000001-000000000000001", wait_s=45)
    assert naps == [30, 15]


def test_an_answer_of_another_kind_points_at_the_address(server: Server, client: Client) -> None:
    server.routes[BY_KEY] = as_json(["hello"])
    with pytest.raises(GbifError, match="check --gbif-url"):
        resolve(client, server.url, "0000001-000000000000001", wait_s=0)
