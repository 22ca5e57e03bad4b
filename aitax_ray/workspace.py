"""The workspace: which artifact lies where under a root, and when a stage is complete, stale or half done.

`report.json` is written last, so its presence means complete. `.started.json` is written first and holds the same
fingerprint (settings that decide the result, digests of what is read): a later run with that fingerprint goes on where
the earlier one stopped; one with another fingerprint starts over.
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

# The artifacts, by their paths under the root. Folders end in no slash; tables have their schema in schemas.py.
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
HISTORY = "model/metrics.json"
EVALUATION = "evaluation/metrics.json"
PER_SPECIES = "evaluation/per_species.parquet"
EMBEDDINGS = "index/embeddings"
SCANN = "index/scann"
INDEX_ROWS = "index/rows.parquet"
ENGINES = "engines"
CURRENT = "engines/current"

# The folders that a stage owns. The first holds its report.
FOLDERS: dict[str, tuple[str, ...]] = {
    "manifest": ("manifest", ARCHIVE),
    "download": (IMAGES, LEDGER),
    "split": ("split",),
    "train": ("model",),
    "evaluate": ("evaluation",),
    "index": ("index",),
    "publish": (ENGINES,),
}
VERSIONED = ("aitax-ray", "ray", "torch", "torchvision", "pyarrow", "polars", "duckdb", "scann", "onnxruntime")


class Outcome(BaseModel):
    """What a stage's work comes to: counts of what it did, of why it left things out, and its figures."""

    counts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    metrics: dict[str, float | None] = {}


class StageReport(Outcome):
    """What `report.json` holds."""

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
        """One line for people: every count, figure and reason."""
        parts = [f"{value:,} {name.replace('_', ' ')}" for name, value in self.counts.items()]
        parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in self.metrics.items() if value is not None]
        if self.reasons:
            parts.append("left out: " + ", ".join(f"{n:,} {why}" for why, n in self.reasons.items()))
        return "; ".join(parts)


class Workspace:
    """A root, its storage, and the bookkeeping of its stages."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.storage = Storage(root)

    def report(self, stage: str) -> StageReport | None:
        """The report of a complete stage, else None."""
        path = f"{FOLDERS[stage][0]}/report.json"
        return StageReport.model_validate(self.storage.read_json(path)) if self.storage.exists(path) else None

    def last_settings(self, stage: str) -> dict[str, Any]:
        """The settings of a stage's last complete run, even if one after it was killed; {} when there is none."""
        report = self.report(stage)
        if report is not None:
            return report.settings
        mark = self.storage.read_json(_mark(stage)) if self.storage.exists(_mark(stage)) else {}
        return dict(mark.get("last_settings") or {})

    def require(self, stage: str) -> StageReport:
        """The report of a stage that must be complete. Raises MissingArtifactError."""
        report = self.report(stage)
        if report is None:
            raise MissingArtifactError(stage, self.root)
        return report

    def digest(self, stage: str) -> str:
        """Digest of what a stage left: sha256 over its files' paths and sizes, since they may be terabytes, and over
        what its report says of how they were made and what they hold: other weights have the same size.

        Of `download` only the photographs count, whose files get a new name whenever there are new ones: asking in vain
        once more for what had failed makes nothing stale.
        """
        report = self.report(stage)
        told, folders = {"fingerprint", "counts", "reasons", "metrics"}, FOLDERS[stage]
        if stage == "download":
            told, folders = {"fingerprint"}, (IMAGES,)
        files = [f for folder in folders for f in self.storage.files(folder) if not f.path.endswith("report.json")]
        told_json = report.model_dump_json(include=told) if report else ""
        return hashlib.sha256("".join([told_json, *(f"\n{f.path}\0{f.size}" for f in files)]).encode()).hexdigest()

    def run(
        self,
        stage: str,
        settings: StageSettings,
        reads: Sequence[str],
        work: Callable[[], Outcome],
        *,
        incremental: bool = False,
        again: str = "",
    ) -> StageReport:
        """Run a stage's work unless it is complete with these settings and inputs, and write its report last.

        What an earlier run left is kept when its fingerprint is the same, or when the stage is `incremental`, that is
        when it can itself tell what is still missing; else it is deleted. `again` is a reason of the stage's own to run
        although it is complete. Raises MissingArtifactError when a stage it reads from is not complete,
        StaleArtifactError when one was made from another that has changed since, StorageError when something lies in
        the stage's folders that the stage did not leave there.
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
        if earlier is not None and earlier.fingerprint == fingerprint and not settings.force and not again:
            log.info("%s is complete already (--force does it again): %s", stage, earlier.summary())
            return earlier
        left = self.storage.read_json(mark)["fingerprint"] if self.storage.exists(mark) else None
        if earlier is not None:
            log.info("%s runs again: %s", stage, again or _what_changed(earlier, settings, inputs))
        if earlier is None and left is None:
            self._check_free(stage)
        elif settings.force or (left != fingerprint and not incremental):
            self.storage.write_json(mark, {"fingerprint": ""})  # no run goes on with what is left of a half deleted one
            self.clear(stage)
        elif left == fingerprint:
            log.info("%s: going on where an earlier run stopped", stage)
        last = {} if settings.force else self.last_settings(stage)
        self.storage.write_json(mark, {"fingerprint": fingerprint, "last_settings": last})
        self.storage.delete(target)  # only now: at any time one of the two says whose the files are
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

    def clear(self, stage: str) -> None:
        """Delete what a stage made, its mark last, which says whose the rest is when this is killed half-way."""
        for folder in reversed(_cleared(stage)):
            for path in self.storage.entries(folder):
                if path != _mark(stage):
                    self.storage.delete(path)
            self.storage.delete(folder)

    def _check_free(self, stage: str) -> None:
        """Raise StorageError when something lies where a stage that was never begun would write, and later delete."""
        for folder in _cleared(stage):
            # Hidden files are no user's work, and the mark of a run that was killed may still have had such a name.
            if self.storage.files(folder):
                raise StorageError(
                    f"{self.storage.full(folder)} holds files, and no mark that `aitax {stage}` made them: "
                    "move them away or choose another --root"
                )


def _mark(stage: str) -> str:
    return f"{FOLDERS[stage][0]}/.started.json"


def _cleared(stage: str) -> tuple[str, ...]:
    """The folders that starting over empties. Published engines stay: publishing adds one, it takes none away."""
    return FOLDERS[stage] if stage != "publish" else ()


def versions() -> dict[str, str]:
    """The versions that made an artifact: Python's, ours and those of the packages that decide results."""
    found = {"python": platform.python_version(), "aitax-ray": __version__}
    for name in VERSIONED[1:]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _what_changed(earlier: StageReport, settings: StageSettings, inputs: dict[str, str]) -> str:
    if settings.force:
        return "asked to (--force)"
    now = hide_secrets_in(settings.result_fields())
    changed = [
        f"{name} is {now[name]!r}, was {earlier.settings.get(name)!r}"
        for name in now
        if earlier.settings.get(name) != now[name]
    ]
    changed += [f"`{name}` was run again" for name in inputs if earlier.inputs.get(name) != inputs[name]]
    return ", ".join(changed) or "the inputs changed"
