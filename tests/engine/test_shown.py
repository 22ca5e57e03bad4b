"""engine.shown: what people and programs see of `aitax engines`."""

import json
from datetime import UTC, datetime

import pytest

from aitax_ray.engine.diff import Difference
from aitax_ray.engine.engines import Pruned, Summary, Swap, Verification
from aitax_ray.engine.shown import format_size, show

SUMMARIES = [
    Summary("v1", False, "taxa.parquet is missing"),
    Summary("v2\x1b[2J", True, "", datetime(2026, 1, 2, tzinfo=UTC), "resnet18", 3000, 500_000, 0.91234, 1_500_000_000),
]
DIFFERENCE = Difference(
    before="v1",
    after="v2",
    species_added={f"k{n}": f"Rana {n}" for n in range(30)},
    species_removed={},
    num_photographs=(1000, 1200),
    num_photographs_added=300,
    num_photographs_removed=100,
    metrics={"top1": (0.5, 0.75)},
    settings={"thresholds.min_score": (0.005, None)},
    sizes={"classifier.onnx": (None, 2_000_000)},
    num_bytes=(10, 2_000_010),
    versions={},
)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> pytest.CaptureFixture[str]:
    monkeypatch.setenv("COLUMNS", "200")
    return capsys


def test_engines_are_shown_as_a_table(shown: pytest.CaptureFixture[str]) -> None:
    show(SUMMARIES, as_json=False)
    headings, first, second = shown.readouterr().out.splitlines()
    assert " ".join(headings.split()) == "version created architecture species photographs top-1 size problem"
    assert " ".join(first.split()) == "v1 0 0 0 B taxa.parquet is missing"
    assert " ".join(second.split()) == r"* v2\x1b[2J 2026-01-02 00:00 resnet18 3,000 500,000 0.912 1.5 GB"


def test_problems_are_shown_one_per_line(shown: pytest.CaptureFixture[str]) -> None:
    show([Verification("v1", 3, 2000, ()), Verification("v2", 3, 10, ("a is missing", "b is missing"))], as_json=False)
    lines = [line.split() for line in shown.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["v1", "3", "2.0", "kB", "intact"],
        ["v2", "3", "10", "B", "a", "is", "missing"],
        ["v2", "3", "10", "B", "b", "is", "missing"],
    ]


def test_a_comparison_shows_what_differs_and_shortens_long_parts(shown: pytest.CaptureFixture[str]) -> None:
    show(DIFFERENCE, as_json=False)
    lines = shown.readouterr().out.splitlines()
    assert lines[:5] == [
        "v1 -> v2",
        "photographs: 1,000 -> 1,200: 300 added, 100 removed",
        "size: 10 B -> 2.0 MB",
        "species added: 30",
        "  Rana 0 (k0)",
    ]
    assert lines[24:] == [
        "  and 10 more (--json shows all)",
        "figures: 1",
        "  top1: 0.5 -> 0.75",
        "settings: 1",
        "  thresholds.min_score: 0.005 -> none",
        "files: 1",
        "  classifier.onnx: none -> 2.0 MB",
    ]


def test_changes_of_current_and_deletions_are_shown(shown: pytest.CaptureFixture[str]) -> None:
    show(Swap(None, "v1"), as_json=False)
    show(Pruned(("v1", "v2"), ("v3",), 2_000), as_json=False)
    assert shown.readouterr().out.splitlines() == [
        "v1 is the current engine, before it was none",
        "engines deleted: 2 (2.0 kB), kept: 1",
        "  v1",
        "  v2",
    ]


@pytest.mark.parametrize("found", [SUMMARIES, DIFFERENCE, Swap("a", "b"), Pruned((), ("a",), 0), []])
def test_programs_get_json(shown: pytest.CaptureFixture[str], found: object) -> None:
    show(found, as_json=True)
    content = json.loads(shown.readouterr().out)
    assert isinstance(content, list) == isinstance(found, list)
    if found is SUMMARIES:
        assert content[1]["created"] == "2026-01-02T00:00:00+00:00"
        assert content[1]["is_current"] is True
    if found is DIFFERENCE:
        assert len(content["species_added"]) == 30
        assert content["metrics"] == {"top1": [0.5, 0.75]}


def test_sizes_are_shown_in_a_unit_that_fits() -> None:
    assert [format_size(10**n) for n in (0, 3, 6, 9, 12, 16)] == [
        "1 B",
        "1.0 kB",
        "1.0 MB",
        "1.0 GB",
        "1.0 TB",
        "10000.0 TB",
    ]
