"""demo.demo: the demo as a user starts it. It is the one test that trains on enough to ask how good the result is."""

import json
from pathlib import Path

from tests.commands import run

FLOOR = 0.9  # top-1 on the test split


def test_demo_builds_an_engine_that_names_what_it_has_never_seen(tmp_path: Path) -> None:
    demo = run("demo", "--once", "--root", tmp_path / "demo", "--port", "0", cwd=tmp_path)
    assert demo.status == 0, demo.err
    metrics = json.loads((tmp_path / "demo" / "evaluation" / "metrics.json").read_text())
    assert metrics["top1"] >= FLOOR
    assert f"top-1 on the test split: {100 * metrics['top1']:.1f} %" in demo.err
    asked = next(line for line in demo.err.splitlines() if "a photograph that is in no archive, of " in line)
    assert asked.rsplit(" of ", 1)[1].rstrip(":") in demo.out
    assert "creativecommons.org" in demo.out
