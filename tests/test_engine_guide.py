"""docs/engine.md is checked like code: it explains every field, and its program reads an engine."""

import ast
import json
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from aitax_ray import schemas
from aitax_ray.engine.engines import Engines
from aitax_ray.engine.info import FORMAT_VERSION, EngineInfo
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.index.compression import PROJECTION
from aitax_ray.index.searcher import SCANN_ROWS
from aitax_ray.serving.client import identify_files
from tests.engines import TRANSFORM, describe_again, write_small_engine

GUIDE = (Path(__file__).parent.parent / "docs" / "engine.md").read_text(encoding="utf-8")
READER = GUIDE.split("```python\n")[1].split("```")[0]


def fields_of(kind: object) -> Iterator[str]:
    """The names of all fields of a model, and of the models in its fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name
            yield from fields_of(field.annotation)
    for part in typing.get_args(kind):
        yield from fields_of(part)


def test_every_field_of_engine_json_is_explained() -> None:
    explained = {part for name in re.findall(r"`([a-z0-9_.]+)`", GUIDE) for part in name.split(".")}
    assert sorted(set(fields_of(EngineInfo)) - explained) == []
    assert f"(`format_version`, now {FORMAT_VERSION})" in GUIDE


@pytest.mark.parametrize("schema", [schemas.INDEX_ROWS, schemas.TAXA, schemas.ANSWERS])
def test_every_column_of_its_tables_is_explained(schema: "schemas.pa.Schema") -> None:
    assert [name for name in schema.names if f"`{name}`" not in GUIDE] == []


def test_every_file_of_an_engine_is_explained(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "engine")
    for path in engine.rglob("*"):
        name = str(path.relative_to(engine)).replace("00000", "NNNNN")
        parts = name.split("/")
        folder = f"{'/'.join(parts[:3])}/"  # shards/NNNNN/scann/
        if path.is_file():
            listed = re.search(rf"^\| .*`{re.escape(name)}`.* \|", GUIDE, re.MULTILINE)
            assert listed or f"| `{folder}` |" in GUIDE, name


@pytest.mark.parametrize("name", [PROJECTION, SCANN_ROWS])
def test_files_that_only_some_large_shards_have_are_explained(name: str) -> None:
    assert f"| `shards/NNNNN/{name}` |" in GUIDE


def test_every_command_exists() -> None:
    commands = set(re.findall(r"aitax engines ([a-z]+)", GUIDE))
    assert commands == {"list", "verify", "diff", "rollback", "prune"}
    assert {"summaries", "verify", "rollback", "prune"} <= set(dir(Engines))
    assert "to" in PublishSettings.model_fields


def test_the_reader_is_short_and_needs_three_packages() -> None:
    imported = {
        (alias.name if isinstance(node, ast.Import) else str(node.module)).split(".")[0]
        for node in ast.walk(ast.parse(READER))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}
    assert len(READER.splitlines()) < 40


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_the_reader_answers_as_identify_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], crop_mode: str
) -> None:
    folder = write_small_engine(tmp_path / "engine")
    transform = TRANSFORM.model_copy(update={"crop_mode": crop_mode, "resize_size": 11, "mean": (0.9, 0.1, 0.1)})
    describe_again(
        folder,
        transform=transform.model_dump(),
        decisions={"fusion": {"temperatures": [2.5, 1, 1]}},
        thresholds={"min_score": 0, "max_total_score": 1},
    )
    # Blue outside, red in the middle, and green at the bottom: the crop decides which one is named.
    pixels = np.zeros((90, 200, 3), np.uint8)
    pixels[:, :, 2], pixels[:, 70:150, 0], pixels[70:, :, 1] = 220, 240, 200
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", READER, folder, tmp_path / "photo.png"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *read, nearest = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    identify_files([tmp_path / "photo.png"], engine=str(folder), url=None, together=False, max_results=5, as_json=True)
    results = json.loads(capsys.readouterr().out)["results"]
    assert [name for _, _, name in read] == [one["name"] for one in results]
    assert [key for _, key, _ in read] == [str(one["gbif_id"]) for one in results]
    np.testing.assert_allclose([float(one[0]) for one in read], [one["score"] for one in results], atol=0.02)
    similar = max(image["similarity"] for one in results for image in one["images"])
    assert float(nearest[0]) == pytest.approx(similar, abs=0.02)
