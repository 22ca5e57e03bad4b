"""The architecture, held by reading the imports of every module: also those inside functions and for type checkers."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "aitax_ray"

# The only modules that know Ray: one shell for each stage that runs on it, and what two of them share.
KNOW_RAY = {
    "cluster",
    "doctor.look",
    "images.distributed",
    "training.feed",
    "training.distributed",
    "training.embeddings",
    "training.inference",
    "index.distributed",
    "serving.application",
    "serving.ingress",
    "serving.ledger",
    "serving.remote",
    "serving.replica",
    "serving.serve",
}
# Ray Serve's classes are made by decorators. All others import ray where they use it: `--help` is instant.
IMPORT_RAY_AT_ONCE = {"serving.application", "serving.ingress", "serving.ledger", "serving.remote"}
# The only modules whose content is torch code; the others in training/ import it where they use it.
IMPORT_TORCH_AT_ONCE = {
    f"training.{name}"
    for name in (
        *("backbones", "weights", "model", "head", "long_tail", "onnx"),
        *("loop", "loss", "optimizer", "schedule", "ema", "mixing", "build", "execution", "validation", "collective"),
    )
}
RAY, TORCH = {"ray"}, {"torch", "torchvision", "safetensors.torch", "timm"}

# A folder, or a module on top -> what it may use beside itself and the ground floor.
MAY_USE: dict[str, set[str]] = {
    "ground floor": set(),
    "gbif": set(),
    "darwin_core": set(),
    "manifest": {"gbif", "darwin_core"},
    "images": set(),
    "dataset": set(),
    "training": set(),
    "index": {"training", "images", "dataset"},  # photographs that look the same
    "evaluation": {"training", "images", "index"},  # the neighbours' vote
    # An engine holds an index and a temperature. What its authors withdraw is deleted from the files of all stages.
    "engine": {"training", "images", "dataset", "index", "evaluation"},
    "serving": {"engine", "index", "images", "evaluation"},  # an engine's decisions
    "pipeline": {"manifest", "images", "dataset", "training", "evaluation", "index", "engine"},
    "demand": {"images", "training"},
    "doctor": {"engine"},
    # export, cite, engines, takedown, doctor are no stages
    "cli": {"pipeline", "demand", "dataset", "engine", "serving", "doctor", "demo"},
    "demo": {"pipeline", "serving", "engine"},
}
HEAVY = {"ray", "torch", "torchvision", "polars", "duckdb", "fastapi", "scann", "onnxruntime", "matplotlib", "pandas"}


@dataclass(frozen=True)
class Import:
    """Module `importer` names module `name` in line `line`; `at_once`: as soon as it is itself imported."""

    importer: str
    name: str
    line: int
    at_once: bool

    def __str__(self) -> str:
        return f"{PACKAGE}/{self.importer.replace('.', '/')}.py:{self.line} imports {self.name}"

    def is_of(self, packages: set[str]) -> bool:
        return any(self.name == package or self.name.startswith(f"{package}.") for package in packages)


def modules() -> dict[str, Path]:
    """Every module of the package by its name below it; a folder's __init__ by the folder's name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports_below(node: ast.AST, importer: str, at_once: bool = True) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(importer, alias.name, child.lineno, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{importer}:{child.lineno}: the package imports by full names"
            yield from (
                Import(importer, f"{child.module}.{alias.name}", child.lineno, at_once) for alias in child.names
            )
        else:
            late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_for_type_checkers(child)
            yield from imports_below(child, importer, at_once and not late)


def all_imports() -> list[Import]:
    return [
        found
        for name, path in MODULES.items()
        for found in imports_below(ast.parse(path.read_text(encoding="utf-8")), name)
    ]


IMPORTS = all_imports()


def part_of(module: str) -> str:
    """The folder of a module, or what stands for it: "ground floor", "pipeline", "cli"."""
    first = module.split(".")[0]
    return first if first in MAY_USE else "ground floor"


def target_of(found: Import) -> str | None:
    """The module of ours that an import names, None when it is not ours: `aitax_ray.settings.HOW` is `settings`."""
    parts = found.name.split(".")
    if parts[0] != PACKAGE:
        return None
    while ".".join(parts[1:]) not in MODULES:
        parts.pop()
    return ".".join(parts[1:])


def told(imports: list[Import]) -> list[str]:
    return [str(found) for found in imports]


def test_every_folder_has_its_place_in_the_layers() -> None:
    folders = {path.name for path in (ROOT / PACKAGE).iterdir() if (path / "__init__.py").exists()}
    assert folders <= MAY_USE.keys()


def test_only_the_shells_know_ray() -> None:
    offenders = [found for found in IMPORTS if found.is_of(RAY) and found.importer not in KNOW_RAY]
    assert told(offenders) == []


def test_every_shell_that_is_listed_needs_ray() -> None:
    assert {found.importer for found in IMPORTS if found.is_of(RAY)} == KNOW_RAY


def test_ray_is_imported_where_it_is_used() -> None:
    offenders = [f for f in IMPORTS if f.is_of(RAY) and f.at_once and f.importer not in IMPORT_RAY_AT_ONCE]
    assert told(offenders) == []


def test_only_training_knows_torch() -> None:
    offenders = [found for found in IMPORTS if found.is_of(TORCH) and part_of(found.importer) != "training"]
    assert told(offenders) == []


def test_torch_is_imported_where_it_is_used() -> None:
    offenders = [f for f in IMPORTS if f.is_of(TORCH) and f.at_once and f.importer not in IMPORT_TORCH_AT_ONCE]
    assert told(offenders) == []


@pytest.mark.parametrize("part", MAY_USE)
def test_imports_follow_the_data_downwards_only(part: str) -> None:
    allowed = MAY_USE[part] | {part, "ground floor"}
    ours = [(found, target_of(found)) for found in IMPORTS if part_of(found.importer) == part]
    assert told([found for found, target in ours if target is not None and part_of(target) not in allowed]) == []


def test_the_layers_have_no_cycle() -> None:
    below = {part: set(used) for part, used in MAY_USE.items()}
    while below:
        lowest = {part for part, used in below.items() if not used & below.keys()}
        assert lowest, f"each of {sorted(below)} uses another"
        below = {part: used for part, used in below.items() if part not in lowest}


def test_no_two_modules_import_each_other_not_even_by_way_of_a_third() -> None:
    """Also not inside functions or for type checkers: what needs that is one module, or lacks a third below both."""
    uses: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in IMPORTS:
        target = target_of(found)
        if target is not None and target != found.importer:
            uses[found.importer].add(target)
    while uses:
        lowest = {name for name, used in uses.items() if not used & uses.keys()}
        assert lowest, f"in circles, or above one: {sorted(uses)}"
        uses = {name: used for name, used in uses.items() if name not in lowest}


def test_serving_knows_engines_and_not_how_they_were_made() -> None:
    known = {target for found in IMPORTS if part_of(found.importer) == "serving" and (target := target_of(found))}
    assert known & {"engine.publish", "index.index", "images.distributed", "workspace", "pipeline"} == set()


def test_jobs_are_doorways_to_the_command_line() -> None:
    jobs = {p.stem: p for p in (ROOT / "jobs").glob("*.py") if p.stem != "__init__"}
    stages = ["manifest", "download", "split", "train", "evaluate", "index", "publish"]
    assert sorted(jobs) == sorted([*stages, "pipeline"])
    for name, path in jobs.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert {found.name for found in imports_below(tree, name)} == {"sys", f"{PACKAGE}.cli.main"}, name
        command = "build" if name == "pipeline" else name
        assert f'main(["{command}", *sys.argv[1:]])' in path.read_text(encoding="utf-8")


def test_the_library_does_not_print() -> None:
    offenders = [
        f"{name}:{node.lineno}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert offenders == []


def test_every_join_of_tables_states_its_cardinality() -> None:
    """A key that is there twice must be an error and not another number of rows."""
    offenders = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
                options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                only_filters = options.get("how") in ("'anti'", "'semi'")
                if options and "validate" not in options and not only_filters:
                    offenders.append(f"{name}:{node.lineno}")
    assert offenders == []


def test_every_module_says_what_it_is() -> None:
    assert [
        name for name, p in MODULES.items() if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ] == []


def test_every_module_has_its_tests_in_its_place() -> None:
    # A folder's __init__ says what the folder is and does nothing.
    wanted = {
        ROOT / "tests" / path.relative_to(ROOT / PACKAGE).with_name(f"test_{path.name}")
        for path in MODULES.values()
        if path.name != "__init__.py"
    }
    assert [str(path.relative_to(ROOT)) for path in sorted(wanted) if not path.exists()] == []


def run_python(code: str, folder: Path) -> str:
    """Run code in a new process whose working folder and home are `folder`."""
    places = {name: str(folder) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    environment = os.environ | places | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HELP = """
import contextlib, io, json, sys
from aitax_ray.cli import app
commands = [name for name in app if not name.startswith("-")]
shown = {}
for arguments in ([], *([name] for name in commands)):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        app([*arguments, "--help"], result_action="return_value")
    shown[" ".join(arguments)] = text.getvalue()
sys.stdout.write(json.dumps({"shown": shown, "modules": sorted(sys.modules)}))
"""


def test_help_of_every_command_imports_nothing_heavy(tmp_path: Path) -> None:
    answer = json.loads(run_python(HELP, tmp_path))
    assert {"", "build", "manifest", "train", "serve", "identify", "demo"} <= answer["shown"].keys()
    assert [name for name, text in answer["shown"].items() if f"Usage: aitax {name}".strip() not in text] == []
    assert HEAVY & set(answer["modules"]) == set()


IMPORT_ALL = """
import importlib, json, logging, signal, sys, threading
with open("modules.json") as file:
    names = json.load(file)
sys.modules.update(ray=None, torch=None)  # seconds, and what they do is not ours
before = threading.active_count(), signal.getsignal(signal.SIGTERM), logging.root.level
imported = []
for name in names:
    try:
        importlib.import_module(name)
        imported.append(name)
    except ModuleNotFoundError as error:
        assert error.name.split(".")[0] in ("ray", "torch"), error
after = threading.active_count(), signal.getsignal(signal.SIGTERM), logging.root.level
assert after == before, (before, after)
assert logging.root.handlers == []
sys.stdout.write(json.dumps(imported))
"""


def test_importing_leaves_no_file_no_thread_and_no_word(tmp_path: Path) -> None:
    names = [f"{PACKAGE}.{name}".rstrip(".") for name in MODULES]
    (tmp_path / "modules.json").write_text(json.dumps(names), encoding="utf-8")
    imported = set(json.loads(run_python(IMPORT_ALL, tmp_path)))
    assert len(imported) > len(names) - len(IMPORT_TORCH_AT_ONCE) - 7
    assert [path.name for path in tmp_path.iterdir()] == ["modules.json"]


def test_what_is_for_type_checkers_imports_something() -> None:
    offenders = [
        f"{name}:{node.lineno}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if is_for_type_checkers(node) and not list(imports_below(node, name))
    ]
    assert offenders == []


def test_modules_define_and_do_nothing_more() -> None:
    """The command line registers its commands; nobody else calls or loops at import."""
    does = (ast.Expr, ast.For, ast.While, ast.With, ast.Try, ast.Delete, ast.AugAssign)
    offenders = [
        f"{name}:{node.lineno}"
        for name, path in MODULES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, does) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert [place for place in offenders if not place.startswith("cli:")] == []
