"""The README and the tree of files are checked like code: the tree is the tree, commands and flags exist."""

import re
from pathlib import Path

from aitax_ray.cli import app
from aitax_ray.dataset.export import ExportSettings
from aitax_ray.pipeline import STAGES
from aitax_ray.serving.settings import ServeSettings
from aitax_ray.settings import flag

ROOT = Path(__file__).parent.parent
MOVING = (ROOT / "docs" / "from-ai-taxonomist.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8").split("```")[1]


def test_every_module_stands_in_the_tree_under_its_folder() -> None:
    parts = re.split(r"^  (\w+)/ ", TREE, flags=re.MULTILINE)
    ground = parts[0] + parts[-1]
    listed = dict(zip(parts[1::2], parts[2::2], strict=True)) | {"aitax_ray": ground}
    for path in sorted((ROOT / "aitax_ray").rglob("*.py")):
        if path.name != "__init__.py":
            assert re.search(rf"\b{path.stem}\b", listed[path.parent.name]), f"{path} is not in docs/tree.md"


def test_the_tree_names_nothing_that_is_not_there() -> None:
    there = {path.name for folder in ("aitax_ray", "tests", "jobs") for path in (ROOT / folder).rglob("*")}
    there |= {path.name for path in ROOT.iterdir()}
    for name in re.findall(r"[\w.]+(?:\.py|\.yaml|/)(?=\s)", TREE):
        assert name.rstrip("/") in there, f"{name} stands in docs/tree.md only"


def test_every_page_of_the_docs_stands_in_the_site() -> None:
    named = set(re.findall(r"\b[\w/-]+\.md\b", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert named == there, "each page of docs/ needs its line in `nav` of mkdocs.yml"


def test_every_command_of_the_readme_exists() -> None:
    commands = set(re.findall(r"\baitax ([a-z]+)\b", README))
    assert commands
    assert commands <= set(app.resolved_commands() if hasattr(app, "resolved_commands") else app)


def test_every_flag_that_succeeds_one_of_ai_taxonomist_exists() -> None:
    known = {flag(name) for stage in STAGES for name in stage.settings.model_fields}
    known |= {flag(name) for model in (ServeSettings, ExportSettings) for name in model.model_fields} | {
        "--url",
        "--no-illustrate",
        "--no-pretrained",
        "--force",
    }
    rows = 0
    for line in MOVING.splitlines():
        if not line.startswith("|"):
            continue
        *theirs, ours = line.strip("|").split(" | ")
        for name in re.findall(r"(--[a-z][a-z-]*)", ours):
            assert name in known, f"{name} of the table is no flag: {theirs}"
            rows += 1
    assert rows > 20
