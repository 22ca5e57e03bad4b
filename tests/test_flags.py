"""Flags of settings models that are made up here; those of the stages are in test_cli.py and test_settings.py."""

from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from pydantic import BaseModel, Field

from aitax_ray.errors import SettingsError
from aitax_ray.flags import CONFIG, add_command


class Frogs(BaseModel):
    root: str = Field(description="Where frogs are.")
    colours: tuple[str, ...] = Field(("green", "blue"), description="Colours of frogs.")
    wet: bool = Field(True, description="Only wet frogs.")


class Toads(BaseModel):
    root: str = Field(description="Where toads are.")
    length_mm: float = Field(80, description="Length of toads.")


Calls = list[tuple[str, dict[str, Any], Path]]


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
def app(calls: Calls) -> App:
    app = App(name="aitax", help_format="plaintext", result_action="return_value")
    add_command(
        app,
        "count",
        {"Frogs": Frogs, "Toads": Toads},
        lambda flags, config: calls.append(("count", flags, config)),
        "Count them.",
        {"show": ("Only show.", lambda flags, config: calls.append(("show", flags, config)))},
    )
    return app


def call(app: App, *arguments: str) -> None:
    app(arguments, exit_on_error=False, print_error=False)


def test_a_command_gets_the_flags_that_were_given_and_no_defaults(app: App, calls: Calls) -> None:
    call(app, "count", "--colours", "red", "brown", "--no-wet", "--length-mm", "70")
    assert calls == [("count", {"colours": ("red", "brown"), "wet": False, "length_mm": 70.0}, Path(CONFIG))]


def test_another_flag_calls_something_else_with_the_same_flags(app: App, calls: Calls) -> None:
    call(app, "count", "--root", "r", "--show")
    assert calls == [("show", {"root": "r"}, Path(CONFIG))]


def test_a_file_that_was_asked_for_must_be_there(app: App, calls: Calls, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        call(app, "count", "--config", str(tmp_path / "none.yaml"))
    (tmp_path / "some.yaml").touch()
    call(app, "count", "--config", str(tmp_path / "some.yaml"))
    assert calls == [("count", {}, tmp_path / "some.yaml")]


def test_help_has_each_field_once_with_its_text_and_default_under_its_heading(
    app: App, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    app(["count", "--help"])
    shown = capsys.readouterr().out
    assert shown.count("--root") == 1
    for text in ("Count them.", "Colours of frogs. [default: green blue]", "Only wet frogs. [default: yes]"):
        assert text in shown
    assert "Length of toads. [default: 80]" in shown
    assert "Where frogs are. [required]" in shown
    assert shown.index("every stage") < shown.index("Frogs") < shown.index("Toads")
