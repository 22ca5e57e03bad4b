"""serving.backend: the address of the service, the project of a request, the quota of a client."""

import pytest
from fastapi import Request

from aitax_ray.errors import RequestError
from aitax_ray.serving.backend import UNLIMITED, base_url, check_project, num_remaining
from tests.serving.service import LocalBackend


def request(*headers: tuple[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in (("host", "frogs.example"), *headers)]
    return Request(
        {"type": "http", "scheme": "http", "path": "/v2/x", "root_path": "/api", "headers": raw, "state": {}}
    )


def test_the_address_of_the_service_is_the_one_that_the_client_sees() -> None:
    assert base_url(request()) == "http://frogs.example/api/"
    assert base_url(request(("x-forwarded-proto", "https"))) == "https://frogs.example/api/"


async def test_a_project_is_everything_or_the_engines_own(backend: LocalBackend) -> None:
    for project in ("all", "best", "dl.colour"):
        assert await check_project(backend, project) == project
    with pytest.raises(RequestError, match="Project not found") as caught:
        await check_project(backend, "k-world-flora")
    assert caught.value.status == 404


def test_a_client_without_a_quota_has_a_number_of_requests_all_the_same() -> None:
    asked = request()
    assert num_remaining(asked) == UNLIMITED
    asked.state.num_remaining = 3
    assert num_remaining(asked) == 3
