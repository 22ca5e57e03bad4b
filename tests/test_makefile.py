"""The Makefile and pyproject.toml agree on what a machine must have."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def bounds() -> tuple[tuple[int, int], tuple[int, int]]:
    """The first Python that will do and the first that will not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"])
    assert found
    return (3, int(found[1])), (3, int(found[2]))


def refusal(version: tuple[int, int]) -> str | int | None:
    """What the check of the set-up says of a version of Python; 0 when it will do."""
    (code,) = re.findall(r"\$\(PYTHON\) -c '(.*)'", MAKEFILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "version_info", (*version, 1, "final", 0))
        with pytest.raises(SystemExit) as left:
            exec(code)
    return left.value.code


def test_the_set_up_takes_the_pythons_that_the_package_takes_and_names_them() -> None:
    first, beyond = bounds()
    assert [minor for minor in range(8, 20) if refusal((3, minor)) == 0] == list(range(first[1], beyond[1]))
    for version in ((3, first[1] - 1), beyond):
        told = str(refusal(version))
        assert f"3.{first[1]} to 3.{beyond[1] - 1}" in told
        assert "make PYTHON=" in told


def test_the_readme_names_the_pythons_that_will_do() -> None:
    first, beyond = bounds()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"Python (3\.\d+ to 3\.\d+|3\.\d+)", readme) == [f"3.{first[1]} to 3.{beyond[1] - 1}"]


def test_the_set_up_shows_that_it_moves() -> None:
    (install,) = re.findall(r".*pip install.* -e .*", MAKEFILE)
    assert not re.search(r"--quiet|\s-q", install)
    assert "--progress-bar off" in install  # a line a package, not one a moment
