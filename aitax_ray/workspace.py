"""The workspace: where each artifact lies under a root, and whether a stage is complete, stale or half done.

A stage writes `report.json` last: if it is there, the stage is complete. It writes the mark `.started.json` first. Both
hold a fingerprint of the settings that decide the result and of the artifacts that are read. A later run with the same
fingerprint continues where the earlier one stopped. A run with another fingerprint starts over.
"""

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from aitax_ray import __version__
from aitax_ray.errors import MissingArtifactError, StaleArtifactError, StorageError
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets_in

log = logging.getLogger(__name__)

# The paths of the artifacts under the root. Folders have no slash at the end. The schemas of tables are in schemas.py.
ARCHIVE = "archive"
QUERY = "archive/query.json"
MEDIA = "manifest/media"
TAXA = "manifest/taxa.parquet"
OCCURRENCES = "manifest/occurrences.parquet"
DROPPED = "manifest/dropped.parquet"
IMAGES = "images"
LEDGER = "ledger"
SPLIT = "split/split.parquet"
EXCLUDED = "split/excluded.parquet"
TESTED = "split/tested.parquet"
ATTRIBUTION = "split/attribution.csv"
RELATED_DATASETS = "split/related_datasets.json"
DATA_CARD = "split/data_card.html"
DATA_CARD_JSON = "split/data_card.json"
CROISSANT = "split/croissant.json"
CLASSIFIER = "model/classifier.json"
WEIGHTS = "model/weights.safetensors"
ONNX = "model/classifier.onnx"
HISTORY = "model/metrics.jsonl"
EVALUATION = "evaluation/metrics.json"
REPORT = "evaluation/report.html"
MODEL_CARD = "evaluation/model_card.md"
PER_SPECIES = "evaluation/per_species.parquet"
ANSWERS = "evaluation/answers.parquet"
DECISIONS = "evaluation/decisions.json"
SUSPECTS = "evaluation/suspects.csv"
VIEWS = "model/embeddings"
EMBEDDINGS = "index/embeddings"
THUMBNAILS = "index/thumbnails"
SHARDS = "index/shards"
ADDED = "index/added"
ADDED_VIEWS = "index/views"
ENGINES = "engines"
CURRENT = "engines/current"
EDITING = "takedowns/editing.json"
RESTATED = "takedowns/digests.json"

# The folders that belong to a stage. The first holds its report.
FOLDERS: dict[str, tuple[str, ...]] = {
    "manifest": ("manifest", ARCHIVE),
    "download": (IMAGES, LEDGER),
    "split": ("split",),
    "train": ("model",),
    "evaluate": ("evaluation",),
    "index": ("index",),
    "publish": (ENGINES,),
}
VERSIONED = (
    *("aitax-ray", "ray", "torch", "torchvision", "pyarrow", "polars", "duckdb", "scann", "onnxruntime"),
    "onnxruntime-gpu",
)


class Outcome(BaseModel):
    """The result of a stage's work: counts of what it made, counts of what it left out by reason, and figures."""

    counts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    metrics: dict[str, float | None] = {}
    lists: dict[str, list[str]] = {}
    """Keys that somebody may have to look at."""


class StageReport(Outcome):
    """The content of `report.json`."""

    model_config = ConfigDict(frozen=True)

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    started: datetime
    seconds: float
    versions: dict[str, str]

    @field_validator("settings")
    @classmethod
    def _without_secrets(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return dict(hide_secrets_in(settings))

    def summary(self) -> str:
        """Give a log line with every count, figure and reason."""
        parts = [f"{value:,} {name.replace('_', ' ')}" for name, value in self.counts.items()]
        parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in self.metrics.items() if value is not None]
        if self.reasons:
            parts.append("left out: " + ", ".join(f"{n:,} {why}" for why, n in self.reasons.items()))
        return "; ".join(parts)


class Workspace:
    """A root, its storage, and the records of its stages."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.storage = Storage(root)

    def report(self, stage: str) -> StageReport | None:
        """Read the report of a stage; None when the stage is not complete."""
        found = self._read(f"{FOLDERS[stage][0]}/report.json")
        return None if found is None else StageReport.model_validate(found)

    def last_settings(self, stage: str) -> dict[str, Any]:
        """Read the settings of a stage's last complete run, even if a later run was killed; {} when there is none."""
        report = self.report(stage)
        if report is not None:
            return report.settings
        mark = self._read(_mark(stage)) or {}
        return dict(mark.get("last_settings") or {})

    def require(self, stage: str) -> StageReport:
        """Read the report of a stage that must be complete. Raises MissingArtifactError."""
        report = self.report(stage)
        if report is None:
            raise MissingArtifactError(stage, self.root)
        return report

    def digest(self, stage: str) -> str:
        """Make a digest of a stage's artifacts: sha256 over the paths and sizes of its files and over its report.

        The content of the files is not read, since it may be terabytes. The report is included because a second
        training writes weights of the same path and size. Of `download` only images/ counts, not ledger/: a failed
        attempt to fetch a photograph makes no later stage stale. The files in images/ get new names whenever
        photographs are added. Artifacts that `edit` has changed keep their digest. Raises StorageError while an edit
        is not complete.
        """
        if self._read(EDITING) is not None:
            raise StorageError(
                f"withdrawn photographs are being deleted from the files under {self.root}, or that was interrupted: "
                f"`aitax takedown --root {self.root} --purge` goes on with it, and so does every stage"
            )
        return self._restate(self._digest_files(stage))

    def edit(self, change: Callable[[], None]) -> None:
        """Change artifacts of complete stages so that no later stage becomes stale.

        `change` may be interrupted at any step. Then all stages wait until `edit` is called again with the same
        `change`, which must lead to the same files.
        """
        before = self._read(EDITING)
        if before is None:
            before = {stage: self.digest(stage) for stage in FOLDERS if self.report(stage) is not None}
            self.storage.write_json(EDITING, before)
        change()
        after = {
            self._digest_files(stage): digest for stage, digest in before.items() if self.report(stage) is not None
        }
        restated = self._read(RESTATED) or {}
        changed = {own: digest for own, digest in after.items() if own != digest}
        if changed:
            self.storage.write_json(RESTATED, restated | changed)
        self.storage.delete(EDITING)

    def _read(self, path: str) -> Any:
        content = self.storage.read_if_there(path)
        return None if content is None else json.loads(content)

    def _restate(self, digest: str) -> str:
        restated = self._read(RESTATED) or {}
        return str(restated.get(digest, digest))

    def _digest_files(self, stage: str) -> str:
        report = self.report(stage)
        fields, folders = {"fingerprint", "counts", "reasons", "metrics"}, FOLDERS[stage]
        if stage == "download":
            fields, folders = {"fingerprint"}, (IMAGES,)
        files = [f for folder in folders for f in self.storage.files(folder) if not f.path.endswith("report.json")]
        report_json = report.model_dump_json(include=fields) if report else ""
        return hashlib.sha256("".join([report_json, *(f"\n{f.path}\0{f.size}" for f in files)]).encode()).hexdigest()

    def run(
        self,
        stage: str,
        settings: StageSettings,
        reads: Sequence[str],
        work: Callable[[], Outcome],
        *,
        incremental: bool = False,
        rerun_reason: str = "",
        kept_folders: Sequence[str] = (),
        are_files_own: bool = False,
        prepare: Callable[[], object] = lambda: None,
    ) -> StageReport:
        """Run a stage's work unless the stage is complete with these settings and inputs; write its report last.

        Files of an earlier run are kept when its fingerprint is the same, or when the stage is `incremental`: such a
        stage finds out itself what is missing. Otherwise they are deleted, except for those in `kept_folders`. With a
        `rerun_reason`, which is logged, the stage runs although it is complete. With `are_files_own` the stage
        continues with files that it recognised as its own, although the report and the mark are lost. `prepare` comes
        before files are deleted: what it raises leaves the artifacts of the earlier run as they are.

        Raises MissingArtifactError when an input is not complete, StaleArtifactError when an input was made from an
        artifact that has changed since, StorageError when the stage's folders hold files that it did not write.
        """
        upstream = {name: self.require(name) for name in reads}
        inputs = {name: self.digest(name) for name in reads}
        for name, report in upstream.items():
            changed = [
                other for other in report.inputs if inputs.get(other, report.inputs[other]) != report.inputs[other]
            ]
            if changed:
                raise StaleArtifactError(
                    f"`{name}` was made from an earlier `{changed[0]}`: "
                    f"run `aitax {name} --root {self.root}` again first"
                )
        key = json.dumps([stage, settings.result_fields(), inputs], sort_keys=True)
        fingerprint = hashlib.sha256(key.encode()).hexdigest()
        mark, target = _mark(stage), f"{FOLDERS[stage][0]}/report.json"
        earlier = self.report(stage)
        if earlier is not None and earlier.fingerprint == fingerprint and not settings.force and not rerun_reason:
            log.info("%s is complete already (--force runs it again): %s", stage, earlier.summary())
            return earlier
        last_mark = self._read(mark)
        unfinished = None if last_mark is None else last_mark["fingerprint"]
        if earlier is not None:
            log.info("%s runs again: %s", stage, rerun_reason or _what_changed(earlier, settings, inputs))
        prepare()
        if earlier is None and unfinished is None and not are_files_own:
            self._check_free(stage)
        elif settings.force or (unfinished != fingerprint and not incremental):
            # After a kill in the middle of the deletion, no run may continue with the files that remain.
            self.storage.write_json(mark, {"fingerprint": ""})
            self.clear(stage, () if settings.force else kept_folders)
        elif unfinished == fingerprint:
            log.info("%s: continuing where an earlier run stopped", stage)
        last = {} if settings.force else self.last_settings(stage)
        self.storage.write_json(mark, {"fingerprint": fingerprint, "last_settings": last})
        # After the mark is written: files without a mark and without a report count as files of the user.
        self.storage.delete(target)
        started, begin = datetime.now(UTC), time.monotonic()
        outcome = work()
        report = StageReport(
            **outcome.model_dump(),
            stage=stage,
            settings=settings.model_dump(mode="json"),
            inputs=inputs,
            fingerprint=fingerprint,
            started=started,
            seconds=round(time.monotonic() - begin, 3),
            versions=versions(),
        )
        self.storage.write_json(target, report.model_dump(mode="json"))
        self.storage.delete(mark)
        log.info("%s: done in %.1f s: %s", stage, report.seconds, report.summary())
        return report

    def clear(self, stage: str, kept_folders: Sequence[str] = ()) -> None:
        """Delete a stage's files, but not `kept_folders`.

        The mark is deleted last, and stays beside kept folders. So after a kill it shows that the files that remain
        were written by this stage.
        """
        for folder in reversed(_cleared(stage)):
            entries = self.storage.entries(folder)
            for path in entries:
                if path not in (_mark(stage), *kept_folders):
                    self.storage.delete(path)
            if not set(kept_folders) & set(entries):
                self.storage.delete(folder)

    def _check_free(self, stage: str) -> None:
        """Raise StorageError when a stage that never ran has files in its folders: they belong to the user."""
        for folder in _cleared(stage):
            # Storage.files leaves out hidden files. A run that was killed while it wrote its mark leaves a hidden file.
            if self.storage.files(folder):
                raise StorageError(
                    f"{self.storage.address(folder)} holds files that `aitax {stage}` did not make: "
                    "move them away or choose another --root"
                )


def _mark(stage: str) -> str:
    return f"{FOLDERS[stage][0]}/.started.json"


def _cleared(stage: str) -> tuple[str, ...]:
    """Give the folders that a stage empties when it starts over. Published engines stay: publishing only adds."""
    return FOLDERS[stage] if stage != "publish" else ()


def versions() -> dict[str, str]:
    """Give the versions that made an artifact: Python's, ours, and those of the packages that decide results."""
    found = {"python": platform.python_version(), "aitax-ray": __version__}
    for name in VERSIONED[1:]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _what_changed(earlier: StageReport, settings: StageSettings, inputs: dict[str, str]) -> str:
    if settings.force:
        return "--force was given"
    now = hide_secrets_in(settings.model_dump(mode="json"))
    changed = [
        f"{name} is {now[name]!r}, was {earlier.settings.get(name)!r}"
        for name in settings.result_fields()
        if name in now and earlier.settings.get(name) != now[name]
    ]
    changed += [
        f"the artifacts of `{name}` have changed" for name in inputs if earlier.inputs.get(name) != inputs[name]
    ]
    return ", ".join(changed) or "the inputs changed"
