"""Fewer replicates for the tests of what is written about figures; those of the intervals themselves take all."""

import pytest

from aitax_ray.evaluation import bootstrap

MANY = ("test_bootstrap", "test_compare", "test_figures", "test_thresholds", "test_conformal", "test_acceptance")


@pytest.fixture(autouse=True)
def few_replicates(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.module.__name__.rpartition(".")[2] not in MANY:
        monkeypatch.setattr(bootstrap, "NUM_REPLICATES", 100)
