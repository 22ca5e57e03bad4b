"""The simulation of benchmarks/simulate_growth.py, against cases that are computed by hand."""

import sys
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.images.settings import DownloadSettings


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import simulate_growth

    yield simulate_growth
    sys.modules.pop("simulate_growth")


def simulate(growth: Any, urls: dict[str, int], answer_s: float, **settings: Any) -> Any:
    return growth.simulate(
        urls, DownloadSettings(root="-", **settings), nodes=1, cores=4, answer_s=answer_s, spread=0.0, decode_rate=1e6
    )


def test_a_host_takes_its_photographs_over_its_rate(growth: Any) -> None:
    """100 photographs at 10 per second: 99 distances of 0.1 s, and the first lease. A small host ends earlier."""
    found = simulate(growth, {"large": 100, "small": 20}, answer_s=0.01)
    assert found.seconds == pytest.approx(9.9, abs=0.3)
    assert found.finished_s["small"] == pytest.approx(1.9, abs=0.3)
    assert (found.num, found.slowest) == (120, "large")


def test_a_slow_host_takes_its_photographs_over_its_places(growth: Any) -> None:
    """8 requests at a time that take 2 s each are 4 photographs per second: 40 of them take 10 s."""
    assert simulate(growth, {"slow": 40}, answer_s=2.0).seconds == pytest.approx(10, abs=1)


def test_the_figures_follow_from_the_rates(growth: Any) -> None:
    """A million photographs: 900,000 are stored and 720,000 are trained on. 1,000 were downloaded in 18 s."""
    download, prices = growth.Download(num=1000, seconds=18.0), growth.Prices(0.04, 1.0, 0.02)
    found = growth.estimate(1_000_000, cores=16, nodes=1, gpus=4, download=download, prices=prices)
    assert found["download_h"] == pytest.approx(5.0)
    assert found["fetched_tb"] == pytest.approx(0.3)
    assert found["train_h"] == pytest.approx(20 * 720_000 / 819 / 4 / 3600)
    assert found["search_gb"] == pytest.approx(720_000 * (768 * 2 + 96 + 72) / 1e9)
    assert found["shards"] == 1


def test_photographs_are_divided_as_in_real_archives(growth: Any) -> None:
    urls = growth.spread_over_hosts(1_000_000)
    assert sum(urls.values()) == pytest.approx(1_000_000, abs=len(urls))
    assert urls["inaturalist-open-data.s3.amazonaws.com"] == pytest.approx(711_000, abs=1000)
