"""serving.routes_pn_account: state, quota, subscription, and what there is not."""

from datetime import UTC, datetime

import httpx
import pytest

from aitax_ray.serving.backend import UNLIMITED

COUNT = {"count": 0, "total": UNLIMITED, "remaining": UNLIMITED}


def test_status_answers(service: httpx.Client) -> None:
    assert service.get("/v2/_status").json() == {"status": "ok"}


def test_quota_of_a_day_is_that_of_today_unless_it_is_named(service: httpx.Client) -> None:
    before = datetime.now(UTC).date().isoformat()
    today = service.get("/v2/quota/daily").json()
    assert today["day"] in (before, datetime.now(UTC).date().isoformat())
    assert today["quota"] == service.get("/v2/quota").json()["quota"] == {"identify": COUNT}
    assert service.get("/v2/quota/daily", params={"day": "2026-11-27"}).json()["day"] == "2026-11-27"
    assert service.get("/v2/quota/daily", params={"day": "27/11/2026"}).json()["statusCode"] == 400


def test_history_and_subscription_have_the_form_that_clients_read(service: httpx.Client) -> None:
    assert service.get("/v2/quota/history", params={"year": "2026"}).json() == []
    assert service.get("/v2/quota/history", params={"year": "x"}).status_code == 400
    found = service.get("/v2/subscription").json()
    assert found["security"] == {"exposeKey": False, "ips": [], "domains": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/survey/tiles/best"),
        ("POST", "/v2/survey/custom/all"),
        ("POST", "/v2/cost/survey/all"),
        ("GET", "/v2/diseases"),
        ("POST", "/v2/diseases/identify"),
        ("GET", "/v2/varieties"),
        ("POST", "/v2/varieties/identify"),
    ],
)
def test_what_the_service_does_not_offer_is_501_with_a_sentence(service: httpx.Client, method: str, path: str) -> None:
    answer = service.request(method, path, data={"size": "1x1"} if method == "POST" else None)
    assert (answer.status_code, answer.json()["error"]) == (501, "Not Implemented")
    assert answer.json()["message"].startswith("this ")
