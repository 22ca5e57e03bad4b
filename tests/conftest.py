"""Fixtures that several folders of tests share."""

import functools
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from aitax_ray.gbif.client import Client
from tests.fake_gbif import Gbif
from tests.gbif_server import Server, serving
from tests.head import Head, head
from tests.web import Web

ROOT = Path(__file__).parents[1]

# The same examples in each run, and no limit of time: a busy machine must not fail a test.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

STARTS_RAY = re.compile(r"ray_session|mark\.ray\b")  # in the text of a module


class RayInOneProcess(LoadScopeScheduling):
    """Gives each test to the next free process, but all modules whose tests start Ray to one.

    Each of these tests wants all cores and some GB of memory. (`--dist loadgroup` would do, but pytest-xdist 3.8 finds
    no groups with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if starts_ray(nodeid.split("::")[0]) else nodeid


@functools.cache
def starts_ray(module: str) -> bool:
    """Whether tests of a module start Ray, in their own process or another."""
    return STARTS_RAY.search((ROOT / module).read_text(encoding="utf-8")) is not None


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RayInOneProcess:
    return RayInOneProcess(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    if "ray_session" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.ray)


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on loopback that serves photographs, well and badly."""
    with Web() as server:
        yield server


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One small Ray for all the tests that need it."""
    import ray

    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")  # see serving.serve
    ray.init(
        address="local",
        num_cpus=4,  # with fewer, actors and tasks may wait for each other for ever
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _system_config={"metrics_report_interval_ms": 1000},  # a test looks at them
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Head]:
    """One Ray head in processes of its own, for the tests of jobs and of `serve deploy`."""
    with head() as running:
        yield running


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
