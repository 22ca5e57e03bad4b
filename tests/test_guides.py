"""The guides are checked like code: every command in them exists, and takes its flags and their values."""

import csv
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cyclopts
import pyarrow.parquet as pq
import pytest

from aitax_ray import cli, pipeline
from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import unseen_photo
from aitax_ray.errors import SettingsError
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.settings import build_settings
from aitax_ray.workspace import OCCURRENCES
from tests.guides import ROOT, Command, commands, pages

ALL = [command for page in pages() for command in commands(page)]
CHECKED = {"aitax", "ray", "serve", "make", "curl"}
# Not ours: they set up, or fetch a file to look at.
OTHERS = {".", "aws", "cp", "docker", "export", "git", "helm", "kubectl", "mkdir", "pip", "podman", "python3"}
# Flags of programs that are not ours, in the text of the pages.
THEIRS = {
    *("--address", "--build-arg", "--dashboard-agent-listen-port", "--entrypoint-num-cpus", "--follow", "--format"),
    *(
        "--generate",
        "--gpus",
        "--isolation",
        "--logdir",
        "--metrics-export-port",
        "--no-wait",
        "--numbers",
        "--runtime-env-json",
    ),
    *("--stream", "--tag", "--temp-dir", "--ulimit", "--working-dir"),
    *("--core-hour", "--gb-month", "--gpu", "--gpu-hour", "--soak", "--start"),  # of benchmarks
    "--outage",  # of tests/faults
}
UNCHECKED = {"CHANGELOG.md", "from-ai-taxonomist.md"}  # its table is checked by test_readme.py


def flags_of(app: cyclopts.App) -> Iterator[str]:
    """The flags of a program and of all its commands."""
    for name in app:
        if not name.startswith("-"):
            command: Any = app[name]
            if command.default_command:
                yield from (flag for one in command.assemble_argument_collection() for flag in one.names)
            yield from flags_of(command)


FLAGS = {"--help", "--version", *flags_of(cli.app)}


def of(program: str) -> list[Command]:
    found = [command for command in ALL if command.words[0] == program]
    assert found
    return found


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stages and services check their settings, and that files are there, and do nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.csv").touch()
    for name in ("outside", "field", "dataset/img/val"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(pipeline, "run_stage", lambda stage, settings: None)
    monkeypatch.setattr(cli, "show_demand", lambda stage, settings: None)
    monkeypatch.setattr(cli, "serve_until_interrupted", lambda settings: None)


def check_aitax(words: list[str]) -> None:
    """Raise what `aitax` raises for these arguments."""
    command, given, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    if words[0] in ("build", "serve", *(stage.name for stage in pipeline.STAGES)):
        command(*given.args, **given.kwargs)  # checks the values


def check_job(words: list[str]) -> None:
    """Check `python -m jobs.<stage> ...`, or `python -m aitax_ray.cli ...`, by the command that the job runs."""
    assert words[:2] == ["python", "-m"]
    if words[2] == "aitax_ray.cli":
        return check_aitax(words[3:])
    module = words[2].removeprefix("jobs.")
    assert (ROOT / "jobs" / f"{module}.py").exists(), module
    return check_aitax(["build" if module == "pipeline" else module, *words[3:]])


def check_click(module: str, words: list[str]) -> None:
    """Raise what a command of Ray raises for these arguments."""
    command: click.Command = importlib.import_module(module).cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command, info_name=words[0]), words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    given = command.make_context(command.name, list(words))
    # Some of them take any flag, for the program that they run.
    assert not [word for word in given.args if word.startswith("-")], given.args


def test_every_program_is_known() -> None:
    assert {command.words[0] for command in ALL} - CHECKED - OTHERS == set()


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("command", of("aitax"), ids=str)
def test_every_command_of_aitax_is_accepted(command: Command) -> None:
    check_aitax(command.words[1:])


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize(
    "words", ["build --rot r", "frobnicate", "split --root r --val much", "split --root r --val 2"]
)
def test_a_wrong_command_is_noticed(words: str) -> None:
    with pytest.raises((cyclopts.CycloptsError, SettingsError)):
        check_aitax(words.split())


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("command", [*of("ray"), *of("serve")], ids=str)
def test_every_command_of_ray_is_accepted(command: Command) -> None:
    program, *words = command.words
    if "--" in words:
        own = words.index("--")
        check_job(words[own + 1 :])
        words[own:] = ["--", "true"]
    check_click({"ray": "ray.scripts.scripts", "serve": "ray.serve.scripts"}[program], words)


def test_a_wrong_command_of_ray_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        check_click("ray.scripts.scripts", ["up", "cluster.yaml", "--no-such-flag"])


def test_the_folder_of_the_guide_to_own_photographs_is_read(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "own-photographs.md").read_text(encoding="utf-8")
    (metadata,) = re.findall(r"```\n(file,.*?)```", guide, re.DOTALL)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "metadata.csv").write_text(metadata, encoding="utf-8")
    for row in csv.DictReader(metadata.splitlines()):
        path = tmp_path / "photos" / row["file"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(unseen_photo(SPECIES[0], seed=len(path.name)))
    settings = build_settings(ManifestSettings, {"root": str(tmp_path / "moths"), "photos": tmp_path / "photos"})
    assert manifest(settings).counts["kept"] == 2
    (occurrence,) = pq.read_table(tmp_path / "moths" / OCCURRENCES).to_pylist()
    assert occurrence["species_key"] == "Zygaena filipendulae"


@pytest.mark.parametrize("command", of("make"), ids=str)
def test_every_target_of_make_exists(command: Command) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(READY)", ".venv/.ready")
    for word in command.words[1:]:
        assert "=" in word or re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE), word


@pytest.mark.parametrize("command", of("curl"), ids=str)
def test_every_address_that_curl_asks_is_a_route(command: Command) -> None:
    (address,) = [word for word in command.words if word.startswith("http://127.0.0.1:")]
    route = "/" + address.split("/", 3)[3].split("?")[0]
    route = route.replace("/v2/identify/all", "/v2/identify/{project}")
    assert re.search(rf"[` ]{re.escape(route)}`", (ROOT / "docs" / "api.md").read_text(encoding="utf-8")), route


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_flag_in_the_text_exists(page: Path) -> None:
    if page.name in UNCHECKED:
        return
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", text)
    found = {name for span in spans for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    assert found - FLAGS - THEIRS == set()
