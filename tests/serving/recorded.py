"""The metrics that code records, kept in this process instead of Ray."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from aitax_ray.serving import metrics
from aitax_ray.serving.metrics import METRICS, Instrument, Metric


class Recorded:
    """Keeps each value that is recorded."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[float, dict[str, str]]]] = defaultdict(list)

    def of(self, metric: Metric) -> list[tuple[float, dict[str, str]]]:
        return self.values[metric.name]

    def labels(self, metric: Metric) -> list[tuple[str, ...]]:
        """The values of the labels of each record, in the order of the labels."""
        return [tuple(labels[name] for name in metric.labels) for _, labels in self.of(metric)]


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Keep what is recorded while the context lasts."""
    kept = Recorded()

    def keep(metric: Metric) -> Instrument:
        def record(value: float, labels: dict[str, str]) -> None:
            assert set(labels) == set(metric.labels), (metric.name, labels)
            kept.values[metric.name].append((value, labels))

        return record

    metrics.connect({metric.name: keep(metric) for metric in METRICS})
    try:
        yield kept
    finally:
        metrics.connect({})
