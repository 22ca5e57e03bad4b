"""The service that the tests of routes ask."""

from collections.abc import Iterator

import httpx
import pytest

from tests.engines import write_small_engine
from tests.serving.service import LocalBackend, serve


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    return LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))


@pytest.fixture(scope="session")
def service(backend: LocalBackend) -> Iterator[httpx.Client]:
    yield from serve(backend)
