from pathlib import Path

import pyarrow as pa
import pytest

from aitax_ray import workspace
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.doctor.artifacts import check_artifacts
from aitax_ray.doctor.findings import Finding
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.settings import StageSettings
from aitax_ray.workspace import Outcome, Workspace

TABLE = pa.table({"image_id": ["a"]})


def run(ws: Workspace, stage: str, settings: StageSettings, reads: tuple[str, ...], path: str) -> None:
    def work() -> Outcome:
        ws.storage.write_table(path, TABLE)
        return Outcome(counts={"photographs": 1})

    ws.run(stage, settings, reads, work)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A root with three complete stages."""
    made = Workspace(str(tmp_path))
    run(
        made, "manifest", ManifestSettings(root=made.root, doi="10.15468/dl.aaaaaa"), (), f"{workspace.MEDIA}/1.parquet"
    )
    run(made, "download", DownloadSettings(root=made.root), ("manifest",), f"{workspace.IMAGES}/1.parquet")
    run(made, "split", SplitSettings(root=made.root), ("download",), workspace.SPLIT)
    return made


def by_stage(ws: Workspace) -> dict[str, Finding]:
    return {one.area: one for one in check_artifacts(ws.root)}


def test_complete_stages_are_fine_and_those_that_have_not_begun_are_not_named(ws: Workspace) -> None:
    found = by_stage(ws)
    assert list(found) == ["manifest", "download", "split"]
    assert {one.level for one in found.values()} == {"ok"}
    assert "1 photographs" in found["split"].text


def test_a_root_without_artifacts_is_fine(tmp_path: Path) -> None:
    (found,) = check_artifacts(str(tmp_path))
    assert found.level == "ok"


def test_a_stage_whose_input_was_made_anew_is_stale(ws: Workspace) -> None:
    again = ManifestSettings(root=ws.root, doi="10.15468/dl.bbbbbb")
    run(ws, "manifest", again, (), f"{workspace.MEDIA}/2.parquet")
    found = by_stage(ws)
    assert found["download"].text == "stale: it was made from an earlier `manifest`"
    assert found["download"].remedy == f"run `aitax download --root {ws.root}`"


def test_a_stage_without_report_is_half_done(ws: Workspace) -> None:
    ws.storage.delete("split/report.json")
    ws.storage.write_json("split/.started.json", {"fingerprint": "x"})
    found = by_stage(ws)["split"]
    assert (found.level, found.text[:20]) == ("warning", "half done: 1 files, ")
    assert found.remedy.endswith("which goes on")


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("images/1.parquet", b"PAR1 and no end", "images/1.parquet cannot be read"),
        ("images/1.parquet", b"", "images/1.parquet is empty"),
        ("images/1.parquet", None, "its files are gone"),
        ("images/report.json", b"{", "images/report.json cannot be read"),
    ],
)
def test_a_damaged_file_is_named(ws: Workspace, path: str, content: bytes | None, text: str) -> None:
    if content is None:
        ws.storage.delete(path)
    else:
        ws.storage.write_bytes(path, content)
    found = by_stage(ws)["download"]
    assert (found.level, found.text) == ("broken", text)
    assert found.remedy == f"run `aitax download --root {ws.root} --force`"


def test_a_deletion_that_was_interrupted_comes_first(ws: Workspace) -> None:
    ws.storage.write_json(workspace.EDITING, {})
    (found,) = check_artifacts(ws.root)
    assert f"`aitax takedown --root {ws.root} --purge`" in found.remedy
