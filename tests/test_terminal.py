"""A command in this process, of a command line that has one."""

import errno
import logging
import signal
from collections.abc import Callable, Iterator

import pytest
from cyclopts import App
from ray.exceptions import GetTimeoutError, NodeDiedError

from aitax_ray.errors import DataError, SettingsError
from aitax_ray.terminal import resumable, run_command

Work = Callable[[], object]


@pytest.fixture(autouse=True)
def _same_process() -> Iterator[None]:
    """What a command sets for its process goes with the test."""
    handler, level, handlers = signal.getsignal(signal.SIGTERM), logging.root.level, logging.root.handlers[:]
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers


def run(work: Work, *arguments: str) -> int:
    """Run `work` as a command, and return its exit status."""
    logging.root.handlers.clear()  # those of pytest stand in the way of ours
    app = App(name="aitax", suppress_keyboard_interrupt=False)

    @app.command(name="work")
    def _work(*, fast: bool = False) -> None:
        work()

    with pytest.raises(SystemExit) as left:
        run_command(app, arguments or ["work"])
    assert isinstance(left.value.code, int)
    return left.value.code


def fail(error: BaseException) -> Work:
    """Make work that raises an error."""

    def work() -> None:
        raise error

    return work


def test_success_has_status_0_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_a_failure_has_status_1_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(DataError("too little: take more"))) == 1
    assert capsys.readouterr() == ("", "aitax: too little: take more\n")


def test_an_unexpected_error_has_status_1_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(ZeroDivisionError("by zero\n  and a long story"))) == 1
    assert capsys.readouterr() == ("", "aitax: ZeroDivisionError: by zero (--debug shows more)\n")


def test_bad_usage_has_status_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: None, "work", "--fasst") == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert "--fasst" in err
    assert err.endswith("See `aitax --help`.\n")


def test_a_package_that_is_missing_here_is_named_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(ModuleNotFoundError("No module named 'torch'", name="torch"))) == 1
    assert capsys.readouterr().err.startswith("aitax: torch is not installed here: take the image built with VARIANT")


@pytest.mark.parametrize(
    ("cause", "status", "line"),
    [
        (SettingsError("--lr is too high"), 2, "--lr is too high"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero (--debug shows more)"),
        (
            ModuleNotFoundError("No module named 'polars'", name="polars"),
            1,
            "a node of the cluster lacks the package polars: install it there, or give the job a runtime_env; "
            "`aitax doctor` compares the nodes",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "OSError: [Errno 28] No space left on device: a disk is full; make room there or in the folder for "
            "temporary files, and the same command goes on (--debug shows more)",
        ),
        (
            OSError("When getting the key 'a' in bucket 'b': AWS Error SLOW_DOWN: Please reduce your request rate."),
            1,
            "OSError: When getting the key 'a' in bucket 'b': AWS Error SLOW_DOWN: Please reduce your request rate: "
            "the storage did not answer although it was asked again for about a minute: check that it is up and that "
            "this machine reaches it; then the same command goes on (--debug shows more)",
        ),
        (
            NodeDiedError("its node died\nDetails"),
            1,
            "NodeDiedError: its node died: Ray lost a worker or a node, or has no room left; once that is mended, the "
            "same command goes on (--debug shows more)",
        ),
        (ValueError("not this: 'abc..."), 1, "ValueError: not this: 'abc... (--debug shows more)"),
        (GetTimeoutError("nothing came"), 1, "GetTimeoutError: nothing came (--debug shows more)"),
    ],
)
def test_an_error_in_another_process_is_one_line_instead_of_its_traceback(
    capsys: pytest.CaptureFixture[str], cause: Exception, status: int, line: str
) -> None:
    from ray.exceptions import RayTaskError

    assert run(fail(RayTaskError("f", "Traceback: 60 lines", cause).as_instanceof_cause())) == status
    assert capsys.readouterr() == ("", f"aitax: {line}\n")


@pytest.mark.parametrize("arguments", [("--debug", "work"), ("work", "--debug"), ("work", "--fast", "--debug")])
@pytest.mark.parametrize("error", [DataError, ZeroDivisionError])
def test_debug_shows_the_traceback_without_secrets(
    capsys: pytest.CaptureFixture[str], error: type[Exception], arguments: tuple[str, ...]
) -> None:
    assert run(fail(error("s3://KEY:SECRET@bucket")), *arguments) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith(f"{error.__name__}: s3://***@bucket\n")
    assert "SECRET" not in shown


HOSTILE = "Rana\x1b[2J alba\n12:00:00 all is well\u202e"
HARMLESS = r"Rana\x1b[2J alba\n12:00:00 all is well\u202e"


@pytest.mark.parametrize("error", [DataError(HOSTILE), ValueError(HOSTILE)])
@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_no_text_of_others_commands_the_terminal_or_forges_a_line(
    capsys: pytest.CaptureFixture[str], error: Exception, debug: tuple[str, ...]
) -> None:
    def work() -> None:
        logging.getLogger("aitax_ray.x").info("%s is of %d, %r: %s\nand more", HOSTILE, 3, HOSTILE, ValueError(HOSTILE))
        raise error

    assert run(work, "work", *debug) == 1
    shown = capsys.readouterr().err
    assert all(char.isprintable() or char == "\n" for char in shown)
    lines = shown.splitlines()
    assert f"{HARMLESS} is of 3, " in lines[0]
    assert lines[0].endswith(HARMLESS)
    assert lines[1] == "and more"
    if not debug:
        assert len(lines) == 3
        assert r"Rana\x1b[2J alba" in lines[2]


def test_no_log_line_and_no_error_shows_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://me:SECRET@x.org/a.zip?X-Amz-Signature=SECRET"

    def work() -> None:
        try:
            raise OSError(f"no {address}")
        except OSError as error:
            logging.getLogger("aitax_ray.anywhere").exception("fetching %s", address)
            raise ZeroDivisionError(f"after {address}") from error

    assert run(work) == 1
    shown = capsys.readouterr().err
    assert shown.count("https://***@x.org/a.zip?X-Amz-Signature=***") == 3
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("forced", "line"),
    [
        (False, "stopped; the same command goes on from here"),
        (True, "stopped; the same command without --force goes on from here"),
    ],
)
def test_ctrl_c_and_sigterm_have_status_130_and_say_how_to_go_on(
    capsys: pytest.CaptureFixture[str], forced: bool, line: str
) -> None:
    def work() -> None:
        with resumable(forced):
            signal.raise_signal(signal.SIGTERM)

    assert run(work) == 130
    assert capsys.readouterr() == ("", f"aitax: {line}\n")
