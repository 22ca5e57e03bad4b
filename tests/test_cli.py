"""The command line, in this process; the stages themselves have their own tests."""

import json
import logging
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aitax_ray import __version__, cli
from aitax_ray.dataset.export import ExportSettings
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.errors import MissingArtifactError
from aitax_ray.pipeline import STAGES
from aitax_ray.serving.settings import ServeSettings
from aitax_ray.settings import flag
from tests.engines import write_small_engine

Run = Callable[..., int]
COMMANDS = {stage.name: stage.settings for stage in STAGES} | {"serve": ServeSettings, "export": ExportSettings}


@pytest.fixture(autouse=True)
def _same_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder, a wide terminal; what the command line sets for its process goes with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    handler, level, handlers = signal.getsignal(signal.SIGTERM), logging.root.level, logging.root.handlers[:]
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers


@pytest.fixture
def run() -> Run:
    """Run `aitax` with arguments; returns the exit status."""

    def run_main(*arguments: object) -> int:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        assert isinstance(left.value.code, int)
        return left.value.code

    return run_main


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings that each stage was run with; no stage does anything."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        fake(monkeypatch, stage.name, lambda settings, name=stage.name: found.setdefault(name, settings))
    return found


def fake(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[Any], Any]) -> None:
    stage = next(stage for stage in STAGES if stage.name == name)
    # Stages are frozen dataclasses; that is to keep the program from doing what a test may.
    monkeypatch.setitem(vars(stage), "run", work)


def test_success_has_status_0(run: Run, seen: dict[str, Any]) -> None:
    assert run("split", "--root", "r") == 0
    assert seen["split"].root == "r"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["download", "--root", "r"], "stopped; the same command goes on from here"),
        (["build", "--root", "r", "--archive", "a.zip"], "stopped; the same command goes on from here"),
        (["demo"], "stopped; the same command goes on from here"),
        # What is forced would start over.
        (["download", "--root", "r", "--force"], "stopped; the same command without --force goes on from here"),
        (["build", "--root", "r", "--archive", "a.zip", "--config", "forced.yaml"],
         "stopped; the same command without --force goes on from here"),
        (["identify", "a.jpg", "--engine", "e"], "stopped"),
        (["serve", "--engine", "e"], "stopped"),
    ],
)  # fmt: skip
def test_ctrl_c_has_status_130_and_says_how_to_go_on_where_one_can(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "forced.yaml").write_text("download:\n  force: true\n")
    for stage in STAGES:
        fake(monkeypatch, stage.name, interrupt)
    for name in ("serving.client.identify_files", "demo.demo.run_demo", "cli.serve_until_interrupted"):
        monkeypatch.setattr(f"aitax_ray.{name}", interrupt)
    assert run(*arguments) == 130
    assert capsys.readouterr() == ("", f"aitax: {message}\n")


def test_the_demo_has_a_lasting_folder(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Path] = []
    monkeypatch.setattr("aitax_ray.demo.demo.run_demo", lambda root, **_: given.append(root))
    assert (run("demo"), run("demo", "--root", "r")) == (0, 0)
    assert given == [Path("aitax-demo"), Path("r")]
    assert run("demo", "--help") == 0
    assert "[default: aitax-demo]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split"], "--root is needed"),
        (["serve"], "--engine is needed"),
        (["split", "--root", "r", "--vall", "0.1"], "--vall"),
        (["split", "--root", "r", "--val", "much"], "much"),
        (["split", "--root", "r", "--val", "2"], "--val: Input should be less than 1"),
        (["split", "--root", "r", "--val", "0.6", "--test", "0.6"], "--val and --test together must be below 1"),
        (["spilt", "--root", "r"], "spilt"),
        (["split", "r"], "r"),
        (["identify"], "PHOTO"),
        (["manifest", "--root", "r"], "exactly one of --doi"),
        (["manifest", "--root", "r", "--doi", "10.15468/dl.x", "--archive", "a.zip"], "--doi and --archive are given"),
    ],
)
def test_bad_usage_has_status_2_and_one_line_that_names_it(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("aitax: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_command_that_is_misspelled_is_guessed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spilt", "--root", "r") == 2
    assert '"split"' in capsys.readouterr().err


@pytest.mark.parametrize("together", [[], ["--engine", "e", "--url", "http://x"]])
def test_identify_takes_an_engine_or_a_service(
    run: Run, capsys: pytest.CaptureFixture[str], together: list[str]
) -> None:
    assert run("identify", "photo.jpg", *together) == 2
    assert "give either --engine (a folder) or --url (a running service)" in capsys.readouterr().err


def test_identify_says_where_there_is_no_engine(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("identify", "photo.jpg", "--engine", tmp_path) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"no engine in {tmp_path}" in err


def test_an_unknown_architecture_names_the_nearest(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--root", "r", "--arch", "resnet81") == 1
    err = capsys.readouterr().err
    assert err.startswith("aitax: --arch resnet81 is not one of torchvision's")
    assert "resnet18" in err
    assert err.count("\n") == 1


def test_an_unknown_architecture_is_an_error_before_anything_is_built(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seen: dict[str, Any]
) -> None:
    assert run("build", "--root", "r", "--doi", "10.15468/dl.4gbcs6", "--arch", "resnet81") == 1
    assert "resnet18" in capsys.readouterr().err
    assert seen == {}


@pytest.mark.parametrize(
    ("stage", "missing"),
    [("download", "manifest"), ("split", "download"), ("evaluate", "manifest"), ("index", "manifest")],
)
def test_a_stage_without_its_input_names_the_command_that_makes_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, missing: str
) -> None:
    root = tmp_path / "root"
    assert run(stage, "--root", root) == 1
    assert capsys.readouterr() == ("", f"aitax: {MissingArtifactError(missing, str(root))}\n")
    assert not root.exists()


def test_a_root_without_write_permission_is_an_error_of_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos" / "Heliconius erato"
    photos.mkdir(parents=True)
    (photos / "1.jpg").write_bytes(b"a photograph")
    (tmp_path / "file").touch()
    assert run("manifest", "--root", tmp_path / "file" / "root", "--photos", photos.parent) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{tmp_path}/file/root" in err
    assert "choose a folder or URL that can" in err


def test_a_file_that_is_no_archive_is_an_error_without_a_traceback(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    assert run("manifest", "--root", tmp_path / "root", "--archive", tmp_path / "broken.zip") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "broken.zip" in err


def test_the_file_gives_the_settings_that_no_flag_gives(run: Run, tmp_path: Path, seen: dict[str, Any]) -> None:
    (tmp_path / "aitax.yaml").write_text(
        "split:\n  root: from-file\n  val: 0.2\n  min-images: 7\ntrain:\n  epochs: 3\n"
    )
    assert run("split", "--val", "0.3") == 0
    assert seen["split"] == SplitSettings(root="from-file", val=0.3, test=0.1, min_images=7)


def test_a_flag_can_say_no_to_the_file(run: Run, tmp_path: Path, seen: dict[str, Any]) -> None:
    (tmp_path / "aitax.yaml").write_text("train:\n  pretrained: true\n  imbalanced: true\n")
    assert run("train", "--root", "r", "--no-imbalanced") == 0
    assert (seen["train"].pretrained, seen["train"].imbalanced) == (True, False)


def test_build_gives_each_stage_its_section_and_its_flags(run: Run, tmp_path: Path, seen: dict[str, Any]) -> None:
    (tmp_path / "other.yaml").write_text("train:\n  epochs: 3\ndownload:\n  image-size: 64\n")
    assert run("build", "--root", "r", "--archive", "a.zip", "--seed", "5", "--config", tmp_path / "other.yaml") == 0
    assert list(seen) == [stage.name for stage in STAGES]
    assert {settings.root for settings in seen.values()} == {"r"}
    assert (seen["train"].epochs, seen["download"].image_size, seen["manifest"].archive) == (3, 64, "a.zip")
    assert {name for name, settings in seen.items() if getattr(settings, "seed", None) == 5} == {
        "manifest", "split", "train",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("split:\n  vall: 0.1\n", "--vall is not a setting here"),
        ("splitt:\n  val: 0.1\n", "no section is called `splitt:`"),
        ("split: [\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_wrong_has_status_2_and_one_line(
    run: Run, tmp_path: Path, seen: dict[str, Any], capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    (tmp_path / "aitax.yaml").write_text(content)
    assert run("split", "--root", "r") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert seen == {}


def test_a_file_that_was_asked_for_must_be_there(
    run: Run, seen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("split", "--root", "r", "--config", "absent.yaml") == 2
    assert capsys.readouterr().err == "aitax: --config absent.yaml: there is no such file\n"
    assert seen == {}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_setting_with_its_explanation(run: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run(name, "--help") == 0
    words = capsys.readouterr().out.replace("│", " ").split()
    text = " ".join(words)
    fields = COMMANDS[name].model_fields
    assert [field for field in fields if flag(field) not in words] == []
    assert [field for field, info in fields.items() if str(info.description).split()[0] not in text] == []
    assert "--config" in words


def test_help_of_build_lists_every_setting_of_every_stage_once(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", "--help") == 0
    words = capsys.readouterr().out.split()
    flags = {flag(field) for stage in STAGES for field in stage.settings.model_fields}
    assert {name for name in flags if words.count(name) < 1} == set()
    assert words.count("--root") == 1


def test_help_shows_defaults_and_what_is_required(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--help") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Every node must be able to reach it. [required]" in text
    assert "or are fetched once and cached. [default: the recipe's]" in text
    assert "Seed of all random choices" in text
    assert "[default: 3]" in text
    assert "[choices: adamw, sgd]" in text
    assert "[default: None]" not in text


def test_settings_are_shown_as_they_may_stand_in_the_file(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("train", "--recipe", "ai-taxonomist", "--epochs", "7", "--show") == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown)["train"] | {"epochs": 7, "batch_size": 256} == yaml.safe_load(shown)["train"]
    (tmp_path / "mine.yaml").write_text(shown)
    assert run("train", "--show", "--config", str(tmp_path / "mine.yaml")) == 0
    assert capsys.readouterr().out == shown


def test_help_and_version_have_status_0(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert [name for name in (*COMMANDS, "build", "identify", "cite", "demo") if f" {name} " not in shown] == []
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == __version__
    assert run() == 0


def test_identify_passes_its_flags_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        "aitax_ray.serving.client.identify_files", lambda photos, **rest: given.update(rest, photos=photos)
    )
    assert run("identify", "a.jpg", "b.jpg", "--url", "http://x", "--json", "--together", "--max-results", "3") == 0
    assert given == {
        "photos": [Path("a.jpg"), Path("b.jpg")], "engine": None, "url": "http://x", "together": True,
        "max_results": 3, "num_illustrations": 6, "no_reject": False, "as_json": True,
    }  # fmt: skip


VERSIONS = ("20260101-000000-00000001", "20260102-000000-00000002")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A root with two engines, of which the second is current."""
    for version in VERSIONS:
        write_small_engine(tmp_path / "root" / "engines" / version, version=version)
    (tmp_path / "root" / "engines" / "current").write_text(VERSIONS[1])
    return tmp_path / "root"


def test_engines_are_listed_compared_exchanged_and_deleted(
    run: Run, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*arguments: object) -> Any:
        assert run("engines", *arguments, "--json") == 0
        return json.loads(capsys.readouterr().out)

    root = ("--root", published)
    assert [one["is_current"] for one in answer("list", *root)] == [False, True]
    assert answer("diff", *VERSIONS, *root)["num_photographs"] == [12, 12]
    assert answer("diff", *(published / "engines" / version for version in VERSIONS))["after"] == VERSIONS[1]
    assert answer("rollback", *root) == {"before": VERSIONS[1], "after": VERSIONS[0]}
    assert answer("rollback", VERSIONS[1], *root) == {"before": VERSIONS[0], "after": VERSIONS[1]}
    assert answer("prune", "--keep", 1, *root)["deleted"] == [VERSIONS[0]]
    assert run("engines", "list", *root) == 0
    assert f"*  {VERSIONS[1]}" in capsys.readouterr().out


def test_engines_verify_has_status_1_if_something_is_wrong(
    run: Run, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("engines", "verify", "--root", published) == 0
    capsys.readouterr()
    (published / "engines" / VERSIONS[0] / "taxa.parquet").unlink()
    assert run("engines", "verify", "--root", published) == 1
    shown = capsys.readouterr()
    assert "taxa.parquet is missing" in shown.out
    assert shown.err == "aitax: 1 of 2 engines cannot be used: copy or publish them again\n"
    assert run("engines", "verify", VERSIONS[1], "--root", published) == 0


def test_engines_say_what_is_wrong_in_one_line(
    run: Run, tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["list", "--root", tmp_path], ["rollback", "gone", "--root", published], ["diff", "a", "b"]):
        assert run("engines", *arguments) == 1
        assert re.fullmatch(r"aitax: no engines? .*\n", capsys.readouterr().err)
    assert run("engines", "prune", "--root", published) == 2  # --keep is a decision


def test_keys_are_added_listed_and_revoked(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ("--keys", tmp_path / "keys.jsonl")
    limits = ("--per-day", 9, "--per-minute", 2, "--origins", "https://a.example", "https://b.example")
    assert run("keys", "add", "ann", *file, *limits) == 0
    key = capsys.readouterr().out.strip()
    assert re.fullmatch(r"[0-9a-f]{48}", key)
    assert run("keys", "list", *file, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["per_day"], listed["per_minute"]) == ("ann", 9, 2)
    assert listed["origins"] == ["https://a.example", "https://b.example"]
    assert run("keys", "revoke", "ann", *file) == 0
    assert run("keys", "list", *file) == 0
    assert capsys.readouterr() == ("", "")
    assert run("keys", "revoke", "ann", *file) == 2
    assert capsys.readouterr().err.startswith("aitax: there is no key ann")
