"""serving.metrics: names and labels, their documentation, and that each is recorded somewhere."""

import re
from pathlib import Path

import pytest

from aitax_ray.serving import metrics
from aitax_ray.serving.metrics import METRICS, PREFIX, Metric
from tests.serving.recorded import recorded

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "aitax_ray" / "serving").glob("*.py")}


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"aitax_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
        assert not metric.buckets or metric.buckets[0] > 0  # as Ray demands
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_no_label_names_a_species_a_key_or_a_photograph() -> None:
    labels = {label for metric in METRICS for label in metric.labels}
    assert labels == {"format", "outcome", "status", "part", "reason", "target", "version"}


@pytest.mark.parametrize("name", [name for name, value in vars(metrics).items() if isinstance(value, Metric)])
def test_every_metric_is_listed_and_recorded(name: str) -> None:
    assert getattr(metrics, name) in METRICS
    assert [path.name for path, text in SOURCES.items() if f"metrics.{name}.record(" in text] != []


def test_the_guide_lists_each_metric_with_its_labels_and_meaning() -> None:
    rows = re.findall(rf"^\| `{PREFIX}(aitax_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", GUIDE, flags=re.MULTILINE)
    expected = [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]
    assert rows == expected


def test_what_is_recorded_reaches_the_connected_functions_and_nothing_else() -> None:
    metrics.REFUSALS.record(reason="busy")
    with recorded() as kept:
        metrics.REFUSALS.record(reason="quota")
        metrics.WAITING_REQUESTS.record(3)
    metrics.REFUSALS.record(reason="busy")
    assert kept.of(metrics.REFUSALS) == [(1.0, {"reason": "quota"})]
    assert kept.of(metrics.WAITING_REQUESTS) == [(3, {})]
