from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from aitax_ray import __version__
from aitax_ray.errors import GbifError
from aitax_ray.gbif.client import TRIES, Client, retry_after_s

from .conftest import Answer, Server


def test_the_client_says_who_it_is(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(b"{}")
    assert client.json(f"{server.url}/x") == (200, {})
    assert server.requests[0][1]["user-agent"] == f"aitax-ray/{__version__} (+me@example.org)"


def test_server_errors_are_retried_after_growing_pauses(server: Server, client: Client, naps: list[float]) -> None:
    server.routes["/x"] = [Answer(status=503), Answer(status=502), Answer(b"[1]")]
    assert client.json(f"{server.url}/x") == (200, [1])
    assert naps == [1, 2]


def test_retry_after_is_obeyed(server: Server, client: Client, naps: list[float]) -> None:
    server.routes["/x"] = [Answer(status=429, headers={"Retry-After": "17"}), Answer(b"1")]
    assert client.json(f"{server.url}/x") == (200, 1)
    assert naps == [17]


def test_a_host_that_asks_for_an_hour_is_left_alone(server: Server, client: Client, naps: list[float]) -> None:
    server.routes["/x"] = Answer(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(GbifError, match=r"asks to wait 3,600 s: run the same command later"):
        client.json(f"{server.url}/x")
    assert naps == []
    assert len(server.requests) == 1


def test_patience_ends(server: Server, client: Client, naps: list[float]) -> None:
    server.routes["/x"] = Answer(status=500)
    with pytest.raises(GbifError, match=f"answers 500 .*, {TRIES} times: check the network"):
        client.json(f"{server.url}/x")
    assert len(server.requests) == TRIES
    assert len(naps) == TRIES - 1


def test_a_host_that_is_not_there_is_named(client: Client) -> None:
    with pytest.raises(GbifError, match=r"127\.0\.0\.1 does not answer"):
        client.json("http://127.0.0.1:9/x")


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server, client: Client) -> None:
    server.routes["/x"] = [Answer(b'{"a": 1}', stop_after=3), Answer(b'{"a": 1}')]
    assert client.json(f"{server.url}/x") == (200, {"a": 1})


def test_a_web_page_instead_of_json_points_at_the_address(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(b"<html>")
    with pytest.raises(GbifError, match="does not answer in JSON: check --gbif-url"):
        client.json(f"{server.url}/x")


def test_an_address_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(GbifError, match="cannot be opened"):
        client.json("gopher://example.org/x")


def test_retry_after_may_be_a_date() -> None:
    soon = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=90)))
    assert soon is not None
    assert 80 < soon <= 90
    assert retry_after_s("tomorrow") is None
    assert retry_after_s("-3") == 0
