import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from aitax_ray import __version__
from aitax_ray.errors import GbifError
from aitax_ray.gbif import client as client_module
from aitax_ray.gbif.client import TRIES, Client, retry_after_s
from tests.fake_gbif import Answer, plain
from tests.gbif_server import Server


def test_the_client_says_who_it_is(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(b"{}")
    assert client.json(f"{server.url}/x") == (200, {})
    assert server.requests[0].headers["user-agent"] == f"aitax-ray/{__version__} (+me@example.org)"


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


def test_answers_that_always_break_off_are_given_up(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(b'{"a": 1}', stop_after=3)
    with pytest.raises(GbifError, match="breaks off every answer: check the network"):
        client.json(f"{server.url}/x")
    assert len(server.requests) == TRIES


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff\xfe\xff", b"[" * 200_000, b'{"n": ' + b"9" * 5000 + b"}"])
def test_an_answer_that_is_no_json_points_at_the_address(server: Server, client: Client, body: bytes) -> None:
    server.routes["/x"] = Answer(body)
    with pytest.raises(GbifError, match="does not answer in JSON: check --gbif-url"):
        client.json(f"{server.url}/x")


def test_a_refusal_in_plain_text_gives_its_reason(server: Server, client: Client) -> None:
    server.routes["/x"] = plain("Invalid decimal range: 5-10", 400)
    assert client.json(f"{server.url}/x") == (400, "Invalid decimal range: 5-10")


def test_an_answer_in_a_coding_that_it_has_not_is_asked_for_again(server: Server, client: Client) -> None:
    server.routes["/x"] = [Answer(b"{}", headers={"Content-Encoding": "gzip"}), Answer(b"{}")]
    assert client.json(f"{server.url}/x") == (200, {})


def test_an_answer_without_end_is_not_read_to_its_end(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_BYTES", 1000)
    server.routes["/x"] = Answer(json.dumps("x" * 2000).encode())
    with pytest.raises(GbifError, match="answers with more than 1,000 bytes: check --gbif-url"):
        client.json(f"{server.url}/x")
    assert len(server.requests) == 1


def test_an_answer_that_takes_for_ever_is_not_waited_for(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_READ_S", -1.0)
    server.routes["/x"] = Answer(b"{}")
    with pytest.raises(GbifError, match=r"takes more than .* s for its answer: try later"):
        client.json(f"{server.url}/x")


def test_text_that_no_file_can_hold_is_replaced(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(rb'["\ud83d", "\ud83d\udc38", "\u00e9"]')
    assert client.json(f"{server.url}/x") == (200, ["?", "\N{FROG FACE}", "é"])


@pytest.mark.parametrize("url", ["gopher://example.org/x", "http://[::1/x", "example.org/x"])
def test_an_address_that_is_none_is_refused(client: Client, url: str) -> None:
    with pytest.raises(GbifError, match=r"cannot be opened .*: check the address"):
        client.json(url)


def test_a_redirect_to_a_file_is_not_followed(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(status=302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(GbifError, match="cannot be opened"):
        client.json(f"{server.url}/x")


def test_a_redirect_in_circles_is_left(server: Server, client: Client) -> None:
    server.routes["/x"] = Answer(status=302, headers={"Location": "/x"})
    with pytest.raises(GbifError, match="cannot be opened"):
        client.json(f"{server.url}/x")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_the_host_may_have_taken_is_not_sent_again(server: Server, client: Client, status: int) -> None:
    server.routes["/x"] = Answer(status=status)
    response = client.open(f"{server.url}/x", post={}, repeatable=False)
    response.close()
    assert (response.status_code, len(server.requests)) == (status, 1)


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_host_puts_off_is_sent_again(server: Server, client: Client, naps: list[float], status: int) -> None:
    server.routes["/x"] = [Answer(status=status, headers={"Retry-After": "7"}), Answer(b"", 201)]
    client.open(f"{server.url}/x", post={}, repeatable=False).close()
    assert (len(server.requests), naps) == (2, [7])


def test_a_host_that_hangs_up_may_have_taken_what_was_sent(server: Server, client: Client) -> None:
    server.routes["/x"] = lambda asked: 1 / 0  # the connection closes without an answer
    with pytest.raises(GbifError, match=r"look on gbif\.org whether it took the request"):
        client.open(f"{server.url}/x", post={}, repeatable=False)
    assert len(server.requests) == 1


def test_retry_after_may_be_a_date() -> None:
    soon = retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=90)))
    assert soon is not None
    assert 80 < soon <= 90
    assert retry_after_s("tomorrow") is None


def test_redirects_are_followed_without_their_bodies(server: Server, client: Client) -> None:
    endless = {"Location": "/b", "Content-Length": str(10**12)}  # it sends less, and then nothing
    server.routes |= {"/a": Answer(b"x", 302, endless), "/b": Answer(b'{"frogs": 3}')}
    assert client.json(f"{server.url}/a") == (200, {"frogs": 3})
