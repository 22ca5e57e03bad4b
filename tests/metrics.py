"""What a node of Ray exports for Prometheus."""

import re
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
OPERATIONS = ROOT / "operations"


def exported(until: set[str]) -> str:
    """What the node of this process exports, as soon as it has all these metrics. Ray sends them every second."""
    import ray

    (node,) = ray.nodes()
    url, end = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", time.monotonic() + 60
    while True:
        text = httpx.get(url, timeout=30).text
        missing = until - set(re.findall(r"^# TYPE (\w+)", text, flags=re.MULTILINE))
        if not missing:
            return text
        assert time.monotonic() < end, missing
        time.sleep(0.2)


def named(expression: str) -> set[str]:
    """The metrics of Ray and of ours that PromQL names; a histogram without the suffixes of its series."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bray_[a-z0-9_]+\b", expression)}
