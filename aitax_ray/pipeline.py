"""The pipeline: the stages in their order, and `build`, which runs them all."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split import split
from aitax_ray.engine.publish import publish
from aitax_ray.engine.purge import purge
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.evaluation.evaluate import evaluate
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.images.download import download
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.index.index import index
from aitax_ray.index.settings import IndexSettings
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.settings import StageSettings, build_settings
from aitax_ray.training.settings import TrainSettings
from aitax_ray.training.train import train
from aitax_ray.workspace import StageReport, Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A stage: its verb, its settings, its function."""

    name: str
    settings: type[StageSettings]
    run: Callable[[Any], StageReport]


STAGES = (
    Stage("manifest", ManifestSettings, manifest),
    Stage("download", DownloadSettings, download),
    Stage("split", SplitSettings, split),
    Stage("train", TrainSettings, train),
    Stage("index", IndexSettings, index),
    Stage("evaluate", EvaluateSettings, evaluate),
    Stage("publish", PublishSettings, publish),
)


def run_stage(stage: Stage, settings: StageSettings) -> StageReport:
    """Run a stage. Withdrawn photographs are deleted first, so that no stage reads them."""
    if not getattr(settings, "dry_run", False):
        purge(Workspace(settings.root))
    return stage.run(settings)


def plan(flags: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]]) -> list[tuple[Stage, StageSettings]]:
    """Give each stage its settings. `flags` holds settings of any stage; a setting goes to every stage that has it.

    `config` holds one section per stage, as `settings.read_config` gives it. Raises SettingsError.
    """
    planned = []
    for stage in STAGES:
        own = {name: value for name, value in flags.items() if name in stage.settings.model_fields}
        if stage.name != "manifest":  # `evaluate` has photographs of its own
            own.pop("photos", None)
        if stage.name != "train":  # `index` has views of its own
            own.pop("views", None)
        planned.append((stage, build_settings(stage.settings, own, config.get(stage.name, {}))))
    return planned


def build(flags: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]]) -> list[StageReport]:
    """Run every stage, from manifest to publish; skip those that are complete.

    For `flags` and `config` see `plan`. All settings are checked before the first stage starts. Raises SettingsError,
    or what the stages raise.
    """
    planned = plan(flags, config)
    reports = []
    for number, (stage, settings) in enumerate(planned, 1):
        log.info("stage %d of %d: %s", number, len(planned), stage.name)
        reports.append(run_stage(stage, settings))
        if getattr(settings, "dry_run", False):  # of the manifest: the next stage would find nothing
            break
    return reports
