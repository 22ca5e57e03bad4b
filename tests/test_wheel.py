"""The wheel holds all that the program needs, and runs where nothing else of the project is."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What the demo needs beside its modules: it paints a photograph, and reads templates, texts, styles and recipes.
PROGRAM = """
import sys
from pathlib import Path
import aitax_ray
assert Path(aitax_ray.__file__).is_relative_to(sys.prefix), aitax_ray.__file__
from aitax_ray.demo.world import build_world
from aitax_ray.serving import page
from aitax_ray.training.recipes import read_recipe
assert build_world(Path("world"), base_url="http://127.0.0.1:1", num_species=1, fewest=1, most=1).num_images == 1
assert {"en", "fr", "de", "es"} <= set(page.read_texts())
assert read_recipe("linear-probe")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of this source, and return its output."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the source: setuptools writes beside it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "aitax_ray", source / "aitax_ray", ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, source, cwd=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel. What others wrote comes from this one: to install it takes minutes."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    installed = ("--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", *installed, wheel, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # As a line of a .pth it comes after the wheel, and an editable install in it is not followed.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "aitax_ray").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in there if "__pycache__" not in name}


def test_the_wheel_runs_in_a_clean_environment(environment: Path, tmp_path: Path) -> None:
    run(environment / "bin" / "python", "-c", PROGRAM, cwd=tmp_path)
    assert "--once" in run(environment / "bin" / "aitax", "demo", "--help", cwd=tmp_path)
