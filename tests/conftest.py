"""Fixtures that several folders of tests share."""

import logging
from collections.abc import Iterator

import pytest

from tests.web import Web


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
