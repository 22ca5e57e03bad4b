"""serving.admission: keys over HTTP, at two copies of the service that share one ledger."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitax_ray.errors import RequestError
from aitax_ray.serving import accounts
from aitax_ray.serving.accounts import PAGE, Accounts
from aitax_ray.serving.backend import UNLIMITED
from aitax_ray.serving.keys import add_key, read_keys, revoke_key
from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.service import RED_URL, LocalBackend, serve

RED = photo(COLOURS["11"])
FROGS = "https://frogs.example"
IDENTIFY = [
    ("POST", "/identify"),
    ("GET", "/identify"),
    ("POST", "/v2/ai-taxonomist/all/identify"),
    ("GET", "/v2/ai-taxonomist/all/identify"),
    ("POST", "/v2/identify/all"),
    ("GET", "/v2/identify/all"),
    ("POST", "/v2/observation/identify"),
    ("POST", "/v2/observation/identify/token/abc"),
]
OTHERS = ["/status", "/taxa", "/species", "/", "/v2/species", "/v2/projects", "/v2/languages", "/v2/_status", "/help"]
Add = Callable[..., str]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[httpx.Client], Path]]:
    path = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    add_key(path, "first")
    ledger = Accounts(str(path))
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(accounts, "CHECK_S", 0.0)
        clients = []
        for number in range(2):
            backend = LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / f"colours-{number}"))
            backend.ledger = ledger
            clients.append(stack.enter_context(contextlib.contextmanager(serve)(backend)))
        yield clients, path


@pytest.fixture
def client(copies: tuple[list[httpx.Client], Path]) -> httpx.Client:
    return copies[0][0]


@pytest.fixture
def add(copies: tuple[list[httpx.Client], Path]) -> Add:
    def add_another(**limits: Any) -> str:
        return add_key(copies[1], f"key-{len(read_keys(str(copies[1])))}", **limits)

    return add_another


def identify(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    if method == "POST":
        return client.post(path, files={"image": RED}, **options)
    return client.get(path, **options | {"params": options.get("params", {}) | {"image": RED_URL}})


@pytest.mark.parametrize(("method", "path"), [*IDENTIFY, ("POST", "/v2/embeddings")])
def test_identification_needs_a_key_in_the_address_or_as_bearer(
    client: httpx.Client, add: Add, method: str, path: str
) -> None:
    key = add()
    for options in (
        {},
        {"params": {"api-key": ""}},
        {"params": {"api-key": "wrong"}},
        {"headers": {"Authorization": f"Basic {key}"}},
        {"params": {"authenix-access-token": key}},
    ):
        answer = identify(client, method, path, **options)
        body = answer.json()
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        is_pn = path.startswith("/v2/") and "ai-taxonomist" not in path
        assert (body["error"] if is_pn else body["status"]) == ("Unauthorized" if is_pn else "error")
    for options in ({"params": {"api-key": key}}, {"headers": {"Authorization": f"bearer {key}"}}):
        assert identify(client, method, path, **options).status_code == 200


def test_every_route_that_runs_the_network_is_among_those_tried(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods if "/identify" in path}
    found = {each for each in found if not each[1].endswith(("/taxa", "/status"))}
    found = {each for each in found if "diseases" not in each[1] and "varieties" not in each[1]}
    tried = {(method, path.replace("/all", "/{project}").replace("/abc", "/{token}")) for method, path in IDENTIFY}
    assert found == tried


@pytest.mark.parametrize("path", OTHERS)
def test_all_else_needs_none_and_counts_for_nothing(client: httpx.Client, add: Add, path: str) -> None:
    key = add(per_day=1)
    assert client.get(path).status_code == 200
    assert client.get(path, params={"api-key": key}).status_code == 200
    assert client.get("/v2/quota", params={"api-key": key}).json()["quota"]["identify"]["count"] == 0


def test_a_service_without_keys_takes_any(service: httpx.Client) -> None:
    for key in ("", "anything"):
        answer = service.post("/v2/identify/all", files={"images": RED}, params={"api-key": key})
        assert (answer.status_code, answer.json()["remainingIdentificationRequests"]) == (200, UNLIMITED)
        assert "x-ratelimit-remaining" not in answer.headers


def test_over_the_quota_the_answer_says_when_the_day_ends(client: httpx.Client, add: Add) -> None:
    params = {"api-key": add(per_day=2, per_minute=50)}
    for left in (1, 0):
        answer = client.post("/v2/identify/all", files={"images": RED}, params=params)
        assert (answer.status_code, answer.json()["remainingIdentificationRequests"]) == (200, left)
        assert answer.headers["x-ratelimit-remaining"] == answer.headers["ratelimit-remaining"] == str(left)
        assert answer.headers["ratelimit-limit"] == "2"
        assert answer.headers["ratelimit-policy"] == '"dailyQuota";q=2;w=86400, "minute";q=50;w=60'
        assert answer.headers["ratelimit"] == f'"dailyQuota";r={left};t={answer.headers["ratelimit-reset"]}'
    answer = client.post("/v2/identify/all", files={"images": RED}, params=params, headers={"Origin": FROGS})
    assert (answer.status_code, answer.json()["error"]) == (429, "Too Many Requests")
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    again = parsedate_to_datetime(answer.headers["retry-after"])
    now = datetime.now(UTC)
    assert again - now < timedelta(days=1)
    assert again.strftime("%H:%M") == "00:00"
    assert abs(int(answer.headers["ratelimit-reset"]) - (again - now).total_seconds()) < 5


def test_over_the_rate_the_answer_says_when_to_come_again(client: httpx.Client, add: Add) -> None:
    params = {"api-key": add(per_minute=1)}
    assert identify(client, "POST", "/identify", params=params).headers["x-ratelimit-remaining"] == str(UNLIMITED)
    answer = identify(client, "POST", "/identify", params=params)
    assert (answer.status_code, answer.json()["code"]) == (429, 429)
    wait = parsedate_to_datetime(answer.headers["retry-after"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < wait <= timedelta(seconds=61)


def test_two_copies_together_never_answer_more_than_the_quota(
    copies: tuple[list[httpx.Client], Path], add: Add
) -> None:
    params = {"api-key": add(per_day=10)}

    def ask(number: int) -> int:
        return identify(copies[0][number % 2], "POST", "/identify", params=params).status_code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(40)))
    assert (found.count(200), found.count(429)) == (10, 30)


@pytest.mark.parametrize("path", ["/identify", "/v2/identify/all", "/v2/observation/identify"])
def test_what_the_service_fails_to_answer_is_not_counted(
    client: httpx.Client, add: Add, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add(per_day=5)

    async def fail(*_: object, **__: object) -> None:
        raise RequestError("no room", 503)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "identify", fail)
        failed = client.post(path, files={"image": RED}, params={"api-key": key})
        assert failed.status_code == 503
        assert "x-ratelimit-remaining" not in failed.headers
        patch.setattr(LocalBackend, "identify", None)  # a mistake of ours: 500
        assert client.post("/identify", files={"image": RED}, params={"api-key": key}).status_code == 500
    assert client.post("/identify", files={"image": b"x"}, params={"api-key": key}).status_code == 415
    answer = client.post("/identify", files={"image": RED}, params={"api-key": key})
    assert answer.headers["x-ratelimit-remaining"] == "3"  # mistakes of the client count


def test_a_revoked_key_stops_working_without_a_restart(copies: tuple[list[httpx.Client], Path]) -> None:
    clients, path = copies
    key = add_key(path, "holder")
    asked = {"headers": {"Authorization": f"Bearer {key}"}}
    assert [identify(client, "GET", "/identify", **asked).status_code for client in clients] == [200, 200]
    revoke_key(path, "holder")
    assert [identify(client, "GET", "/identify", **asked).status_code for client in clients] == [401, 401]


def test_a_key_of_an_origin_works_on_its_pages_only(client: httpx.Client, add: Add) -> None:
    params = {"api-key": add(origins=[FROGS])}
    for headers, status in (({"Origin": FROGS}, 200), ({"Origin": "https://other.example"}, 403), ({}, 403)):
        answer = client.post("/v2/identify/all", files={"images": RED}, params=params, headers=headers)
        assert answer.status_code == status
    assert answer.json()["error"] == "Forbidden"


def test_quota_history_and_subscription_have_the_real_counts(client: httpx.Client, add: Add) -> None:
    key = add(per_day=5, origins=[FROGS])
    asked: dict[str, Any] = {"params": {"api-key": key}, "headers": {"Origin": FROGS}}
    identify(client, "POST", "/identify", **asked)
    identify(client, "GET", "/v2/identify/all", **asked)
    count = {"count": 2, "total": 5, "remaining": 3}
    today = client.get("/v2/quota", **asked).json()
    assert today["quota"] == client.get("/v2/quota/daily", **asked).json()["quota"] == {"identify": count}
    asked["params"] = {"api-key": key, "day": today["day"]}
    assert client.get("/v2/quota/daily", **asked).json() == today
    asked["params"] = {"api-key": key, "day": "2020-01-31"}
    empty = {"count": 0, "total": 5, "remaining": 5}
    assert client.get("/v2/quota/daily", **asked).json() == {"day": "2020-01-31", "quota": {"identify": empty}}
    asked["params"] = {"api-key": key}
    assert client.get("/v2/quota/history", **asked).json() == [today]
    found = client.get("/v2/subscription", **asked).json()
    assert found["account"].startswith("key-")
    assert found["security"]["domains"] == [FROGS]
    for path in ("/v2/quota", "/v2/quota/daily", "/v2/quota/history", "/v2/subscription"):
        assert client.get(path).json()["statusCode"] == 401


def test_visitors_of_the_page_need_a_key_of_its_name(copies: tuple[list[httpx.Client], Path]) -> None:
    (client, other), path = copies
    closed = client.post("/", files={"image": RED})
    assert closed.status_code == 401
    assert "<html" in closed.text
    add_key(path, PAGE, per_day=2)
    assert client.post("/", files={"image": RED}).status_code == 200
    assert other.post("/", files={"image": RED}, headers={"X-Part": "answer"}).status_code == 200
    over = client.post("/", files={"image": RED}, headers={"X-Part": "answer"})
    assert over.status_code == 429
    assert over.text.startswith('<p class="banner error"')
    assert parsedate_to_datetime(over.headers["retry-after"]) > datetime.now(UTC)
    assert client.get("/").status_code == 200


def test_a_large_upload_is_refused_with_an_answer_that_arrives(client: httpx.Client) -> None:
    answer = client.post("/identify", files={"image": b"x" * 20_000_000})
    assert answer.status_code == 401


def test_a_key_stands_in_no_answer_and_in_no_log(
    client: httpx.Client, add: Add, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = add(per_minute=12)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the client of this test
    params = {"api-key": key}
    for path in ("/identify", "/v2/identify/all", "/v2/identify/none", "/v2/observation/identify", "/nothing"):
        for upload in (RED, b"none"):
            answer = client.post(path, params=params, files={"image": upload}, data={"api-key": key})
            assert key not in answer.text + str(answer.headers)
    for query in ({"lat": "x"}, {"image": f"https://photos.example/?api-key={key}"}, {}):
        answer = client.get("/identify", params=params | query)
        assert key not in answer.text + str(answer.headers)
    for path in ("/v2/subscription", "/v2/quota", "/", "/species"):
        assert key not in client.get(path, params=params).text
    own = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpcore", "httpx"))]
    assert [line for line in own if key in line] == []
