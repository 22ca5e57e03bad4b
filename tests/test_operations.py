"""operations/ and its guide: alerts, dashboard and metrics name what exists, and so do the commands."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aitax_ray.cli import app
from aitax_ray.serving.metrics import METRICS, PREFIX
from aitax_ray.serving.settings import ServeSettings
from aitax_ray.settings import flag
from tests.metrics import OPERATIONS, ROOT, named

GUIDE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ALERTS = yaml.safe_load((OPERATIONS / "alerts.yml").read_text(encoding="utf-8"))
RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((OPERATIONS / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
OURS = {PREFIX + metric.name for metric in METRICS}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing: install Debian's package prometheus")
        pytest.skip("promtool is missing")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=OPERATIONS, capture_output=True, text=True, timeout=120)


def test_prometheus_accepts_the_configuration_and_the_rules(promtool: str) -> None:
    for command in ("config prometheus.yml", "rules alerts.yml"):
        checked = run(promtool, "check", *command.split())
        assert checked.returncode == 0, checked.stderr


def test_each_alert_fires_when_it_should(promtool: str) -> None:
    tested = run(promtool, "test", "rules", "alerts_test.yml", "drift_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    expected: dict[str, set[bool]] = {name: set() for name in RULES}
    for file in ("alerts_test.yml", "drift_test.yml"):
        for test in yaml.safe_load((OPERATIONS / file).read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                expected[case["alertname"]].add(bool(case.get("exp_alerts")))
    assert expected == {name: {True, False} for name in RULES}


def test_prometheus_reads_each_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"query_{n}", "expr": query.replace("$__rate_interval", "5m").replace("$application", "aitax")}
        for n, query in enumerate(QUERIES)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = run(promtool, "check", "rules", str(path))
    assert checked.returncode == 0, checked.stderr


def test_alerts_and_dashboard_name_our_metrics_as_they_are() -> None:
    """Those of Ray are looked for in what a node exports, in test_serve.py."""
    expressions = [*QUERIES, *(rule["expr"] for rule in RULES.values())]
    found = {name for expression in expressions for name in named(expression) if name.startswith(f"{PREFIX}aitax")}
    assert found == OURS


def test_alerts_and_dashboard_name_labels_that_our_metrics_have() -> None:
    labels = {label for metric in METRICS for label in metric.labels} | {"application", "deployment", "replica", "le"}
    for expression in (*QUERIES, *(rule["expr"] for rule in RULES.values())):
        if not named(expression) or not named(expression) <= OURS:
            continue
        grouped = re.findall(r"\b(?:by|ignoring|group_left) \(([^)]*)\)", expression)
        matched = re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression)
        used = {name.strip() for names in grouped for name in names.split(",") if name.strip()} | set(matched)
        assert used <= labels, expression


def test_the_dashboard_is_what_its_program_writes() -> None:
    code = "import dashboard, sys; sys.stdout.write(dashboard.text())"
    written = run(sys.executable, "-c", code)
    assert written.stdout == (OPERATIONS / "dashboard.json").read_text(encoding="utf-8"), written.stderr


def test_panels_of_the_dashboard_have_titles_and_do_not_overlap() -> None:
    places = set()
    for panel in PANELS:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & places, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_the_guide_says_what_to_do_for_each_alert() -> None:
    runbook = GUIDE.split("## Alerts")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", runbook, flags=re.MULTILINE) == list(RULES)
    assert {rule["labels"]["severity"] for rule in RULES.values()} == set(
        re.findall(r"`(\w+)`: ", runbook.split("###")[0])
    )


def commands() -> list[list[str]]:
    """The words of each command of the guide, in a block or in a line."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    lines += re.findall(r"`((?:aitax|ray|serve|make|promtool|prometheus) [^`]+)`", GUIDE)
    return [shlex.split(re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)) for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_of_the_guide_exists(words: list[str]) -> None:
    program, *given = words
    if program == "aitax":
        shown = help_of(given)
        for word in given:
            if word.startswith("--"):
                assert word in shown, f"{' '.join(words)}: no such flag"
    elif program in ("ray", "serve"):
        assert given[0] in RAY[program]
    elif program == "make":
        assert f"\n{given[0]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif program == "python":
        assert (ROOT / given[0]).exists()
    elif program == "pip":
        extra = re.findall(r"\[(\w+)\]", given[1])[0]
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    elif program in ("prometheus", "promtool"):
        for word in given:
            if "operations/" in word:
                assert (ROOT / word.split("=")[-1]).exists()
    else:
        assert program == "grep"


# The commands of Ray that the guide has. Importing Ray's command line to ask it takes seconds.
RAY = {
    "ray": {"logs", "list", "status", "start", "up", "dashboard", "job", "get-auth-token"},
    "serve": {"deploy", "status"},
}


def help_of(words: list[str]) -> str:
    """The help of a command of ours. Fails if there is no such command."""
    names = [word for word in words if re.fullmatch(r"[a-z]+", word)]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        app([*names[: 2 if names[0] in ("engines", "keys") else 1], "--help"], result_action="return_value")
    assert "Usage: aitax" in text.getvalue()
    return text.getvalue()


def test_each_flag_and_setting_of_the_guide_exists() -> None:
    flags = set(re.findall(r"`(--[a-z-]+)", GUIDE))
    known = {flag(name) for name in ServeSettings.model_fields}
    helps = "".join(help_of([name]) for name in ("download", "index", "evaluate", "publish"))
    rays = {"--temp-dir", "--metrics-export-port"}
    assert [name for name in flags if name not in known | rays and name not in helps] == []
