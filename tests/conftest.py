"""Fixtures that several folders of tests share."""

import functools
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitax_ray.gbif.client import Client
from tests.fake_gbif import Gbif
from tests.gbif_server import Server, serving
from tests.web import Web


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that start Ray one after the other, in one process: each wants all cores and some GB of memory."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on loopback that serves photographs, well and badly."""
    with Web() as server:
        yield server


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One small Ray for all the tests that need it."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,  # with fewer, actors and tasks may wait for each other for ever
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def other_server() -> Iterator[Server]:
    """Another host, as far as HTTP is concerned."""
    with serving() as running:
        yield running


@pytest.fixture
def gbif(server: Server) -> Gbif:
    """The GBIF that the server answers as."""
    return server.gbif


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that clients would have slept, those of the stage too; none sleeps."""
    found: list[float] = []
    for module in ("tabulate", "estimate"):
        monkeypatch.setattr(f"aitax_ray.manifest.{module}.Client", functools.partial(Client, sleep=found.append))
    return found


@pytest.fixture
def client(naps: list[float]) -> Iterator[Client]:
    with Client("me@example.org", sleep=naps.append) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tests do not use the account at GBIF of the person who runs them."""
    for name in ("GBIF_USER", "GBIF_PWD", "GBIF_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
