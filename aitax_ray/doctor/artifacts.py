"""Checks the artifacts under a root: complete, stale, half done or damaged."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from aitax_ray import workspace
from aitax_ray.doctor.findings import Finding
from aitax_ray.engine.engines import Engines
from aitax_ray.errors import AitaxError, StorageError
from aitax_ray.storage import Storage, StoredFile
from aitax_ray.workspace import FOLDERS, StageReport, Workspace

MAX_FILES = 100  # whose ends are read per stage: the others' sizes are looked at


def check_artifacts(root: str) -> list[Finding]:
    """Check what each stage has written under a root, and the current engine, all of whose files are read."""
    ws = Workspace(root)
    if ws.storage.exists(workspace.EDITING):
        text = "withdrawn photographs are being deleted from the files, or that was interrupted"
        return [Finding("takedown", "warning", text, f"run `aitax takedown --root {root} --purge`: it goes on")]
    found: list[Finding] = []
    reports: dict[str, StageReport] = {}
    for stage in FOLDERS:
        try:
            report = ws.report(stage)
        except (ValueError, StorageError):  # neither JSON nor a report
            text = f"{FOLDERS[stage][0]}/report.json cannot be read"
            found.append(Finding(stage, "broken", text, _again(stage, root, force=True)))
            continue
        if report is not None:
            reports[stage] = report
            found.append(_complete(ws, stage, report, reports))
        elif (finding := _incomplete(ws, stage)) is not None:
            found.append(finding)
    if not found:
        return [Finding("artifacts", "ok", f"none yet under {ws.storage.address()}")]
    return found


def _complete(ws: Workspace, stage: str, report: StageReport, reports: dict[str, StageReport]) -> Finding:
    lost = [name for name in report.inputs if name not in reports]
    changed = [name for name in report.inputs if name in reports and ws.digest(name) != report.inputs[name]]
    if damage := _find_damage(ws.storage, stage):
        return Finding(stage, "broken", damage, _again(stage, ws.root, force=stage != "publish"))
    if changed:
        text = f"stale: it was made from an earlier `{changed[0]}`"
        return Finding(stage, "warning", text, _again(stage, ws.root))
    if lost:
        return Finding(stage, "warning", f"complete, but `{lost[0]}` is not", _again(lost[0], ws.root))
    return Finding(stage, "ok", f"complete, {report.started:%Y-%m-%d}: {report.summary()}"[:200])


def _incomplete(ws: Workspace, stage: str) -> Finding | None:
    """Judge a stage without a report; None when it has not begun."""
    mark = f"{FOLDERS[stage][0]}/.started.json"
    if not ws.storage.exists(mark):
        return None
    files = sum(len(ws.storage.files(folder)) for folder in FOLDERS[stage])
    text = f"half done: {files:,} files, no report. It runs now, or it was stopped"
    return Finding(stage, "warning", text, f"if it does not run: {_again(stage, ws.root)}, which goes on")


def _find_damage(storage: Storage, stage: str) -> str:
    """Say what is wrong with the files of a complete stage; "" when nothing is."""
    if stage == "publish":
        return _find_damage_of_engine(storage)
    stored = (file for folder in FOLDERS[stage] for file in storage.files(folder))
    files = [file for file in stored if not file.path.endswith("/report.json")]
    if not files:
        return "its files are gone"
    if empty := [file.path for file in files if file.size == 0 and file.path.endswith((".parquet", ".json"))]:
        return f"{empty[0]} is empty" + _more(empty)
    damaged = [file.path for file in _sample(files) if not _is_readable(storage, file.path)]
    return f"{damaged[0]} cannot be read" + _more(damaged) if damaged else ""


def _find_damage_of_engine(storage: Storage) -> str:
    try:
        engines = Engines(storage.root)
        current = engines.current()
        faults = engines.verify(current)[0].problems if current else ("no engine is current",)
    except AitaxError as error:
        return str(error)
    return faults[0] + _more(faults) if faults else ""


def _sample(files: list[StoredFile]) -> list[StoredFile]:
    """Take at most MAX_FILES files that can be checked, spread over all."""
    checked = [file for file in files if file.path.endswith((".parquet", ".json"))]
    return checked[:: -(-len(checked) // MAX_FILES)] if checked else []


def _is_readable(storage: Storage, path: str) -> bool:
    try:
        if path.endswith(".json"):
            json.loads(storage.read_bytes(path))
        else:
            with pq.ParquetFile(storage.full(path), filesystem=storage.fs):  # reads the end of the file
                pass
    except (ValueError, OSError, StorageError, pa.ArrowInvalid):
        return False
    return True


def _again(stage: str, root: str, *, force: bool = False) -> str:
    return f"run `aitax {stage} --root {root}{' --force' if force else ''}`"


def _more(found: list[str] | tuple[str, ...]) -> str:
    return f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
