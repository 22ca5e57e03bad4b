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
from tests.s3 import S3, serving_s3
from tests.web import Web

ROOT = Path(__file__).parents[1]

# The same examples in each run, and no limit of time: a busy machine must not fail a test.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

# In the text of a module: its tests use the Ray that they share, or start commands that start one.
SHARES_RAY, STARTS_RAY = re.compile(r"\bray_session\b"), re.compile(r"mark\.ray\b")


class RayInTwoProcesses(LoadScopeScheduling):
    """Gives each module to the next free process, but those whose tests need Ray to two, which begin with them.

    One runs the tests that share a Ray, the other those that start one after the other. All want some GB of memory, and
    wait for processes to start most of the time. (`--dist loadgroup` would do, but pytest-xdist 3.8 finds no groups
    with pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::")[0]
        return scope_of(module) or module


@functools.cache
def scope_of(module: str) -> str:
    """The group of a module whose tests need Ray; "" for others."""
    text = (ROOT / module).read_text(encoding="utf-8")
    return "shared Ray" if SHARES_RAY.search(text) else "own Ray" if STARTS_RAY.search(text) else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    groups = ["shared Ray", "own Ray", ""]
    items.sort(key=lambda item: groups.index(scope_of(item.nodeid.split("::")[0])))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RayInTwoProcesses:
    config.option.loadscopereorder = False  # by number of tests
    return RayInTwoProcesses(config, log)


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
def s3_server() -> Iterator[S3]:
    """One server for all tests: its start takes a second."""
    with serving_s3() as running:
        yield running


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 server with an empty bucket, and the environment in which clients find it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    s3_server.requests.clear()
    yield s3_server
    s3_server.choose = lambda number: ""


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
