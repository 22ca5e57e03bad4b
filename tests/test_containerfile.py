"""Containerfile, its lock files and pyproject.toml agree. To build it takes a tool that builds images."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aitax_ray.cli import app
from tests.engines import COLOURS, NAMES, photo, write_small_engine

ROOT = Path(__file__).parents[1]
CONTAINERFILE = (ROOT / "Containerfile").read_text(encoding="utf-8")
INSTRUCTIONS = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE)).splitlines()


def lock(name: str) -> dict[str, str]:
    """The entries of a lock file: name of a package to its requirement and hashes."""
    text = (ROOT / "containers" / f"{name}.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    return {canonicalize_name(re.split("[=<> ]", entry)[0]): entry for entry in entries}


BASE, TORCH = lock("base"), lock("torch")


def said(instruction: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in INSTRUCTIONS if line.startswith(f"{instruction} ")]


def test_every_dependency_is_locked_once_in_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    assert not BASE.keys() & TORCH.keys()
    for requirement in map(Requirement, needed):
        entry = (BASE | TORCH)[canonicalize_name(requirement.name)]
        found = re.match(r"[\w.-]+==(\S+)", entry)
        assert found, entry
        assert requirement.specifier.contains(found[1]), f"run `make lock`: {requirement} is locked as {found[1]}"


def test_versions_are_those_that_the_tests_passed_with() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    for name in BASE.keys() & tested.keys():
        assert f"=={tested[name]} " in BASE[name], f"run `make lock`: {BASE[name].split()[0]}, tested {tested[name]}"


def test_every_package_is_locked_by_hash_and_no_registry_is_named() -> None:
    for entry in (*BASE.values(), *TORCH.values()):
        first, *hashes = [line.rstrip(" \\") for line in entry.splitlines()]
        assert re.fullmatch(r"[\w.-]+==\S+( ; .+)?", first)
        assert hashes
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", each) for each in hashes)
    installs = re.findall(r"pip install[^;&\n]*", "\n".join(said("RUN")))
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install or install.endswith(" .")
    assert re.findall(r"https?://([^/:]+)", CONTAINERFILE) == ["127.0.0.1"]


def test_pytorch_and_what_comes_with_it_is_in_a_lock_of_its_own() -> None:
    assert {"torch", "torchvision", "timm", "triton"} <= TORCH.keys()
    assert not [name for name in BASE if re.match("torch|nvidia|cuda|triton", name)]


def test_the_cuda_variant_has_onnxruntime_for_gpus_in_the_place_of_the_other() -> None:
    assert "onnxruntime" in BASE
    assert "platform_machine == 'x86_64'" in TORCH["onnxruntime-gpu"].splitlines()[0]
    (variants,) = [line for line in said("RUN") if line.startswith("case")]
    cuda = variants[variants.index("cuda)") : variants.index("*)")]
    assert cuda.index("pip uninstall --yes onnxruntime;") < cuda.index("pip install")


def test_the_service_and_its_engine_need_nothing_of_pytorch(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "colours-1")
    (tmp_path / "red.png").write_bytes(photo(COLOURS["11"]))
    code = f"""import sys
sys.modules.update(dict.fromkeys({sorted(name.replace("-", "_") for name in TORCH)!r}))
import aitax_ray.serving.application
from aitax_ray.cli import main
main(["identify", {str(tmp_path / "red.png")!r}, "--engine", {str(engine)!r}, "--json"])"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert NAMES["11"] in json.dumps(json.loads(answer))


def test_the_image_serves_the_engine_in_data_on_8080_and_not_as_root() -> None:
    last = INSTRUCTIONS[max(number for number, line in enumerate(INSTRUCTIONS) if line.startswith("FROM ")) :]
    (user,) = [line.split()[1] for line in last if line.startswith("USER ")]
    assert user == "1000:1000"
    (entry,), (arguments,) = said("ENTRYPOINT"), said("CMD")
    assert json.loads(entry) == ["aitax"]
    _, bound, _ = app.parse_args(json.loads(arguments), exit_on_error=False, print_error=False)
    assert {"engine": "/data", "host": "0.0.0.0", "port": 8080}.items() <= bound.arguments.items()
    assert said("EXPOSE") == ["8080"]
    (check,) = said("HEALTHCHECK")
    assert "http://127.0.0.1:8080/readyz" in check
    compile(json.loads(check[check.index("CMD") + 4 :])[2], "HEALTHCHECK", "exec")


def test_all_that_is_copied_is_there_and_sent_to_the_builder() -> None:
    lines = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    copied = [source for copy in said("COPY") if "--from" not in copy for source in shlex.split(copy)[:-1]]
    for source in copied:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in sent
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {data["readme"], *data["license-files"]} <= set(copied)
    assert not any(fnmatch(".venv", pattern) or fnmatch("build", pattern) for pattern in sent)


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_guide_builds_and_runs_each_variant(variant: str) -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert f"aitax:{variant}" in guide
    assert f"{variant}) " in CONTAINERFILE
