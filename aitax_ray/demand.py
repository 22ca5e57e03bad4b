"""What a stage will ask of Ray, and whether a cluster has it: `--dry-run` of each stage."""

import sys
from dataclasses import dataclass
from typing import cast

from aitax_ray.cluster import Resources, connect, count_resources, use_gpus
from aitax_ray.errors import ClusterError
from aitax_ray.images.distributed import CPUS_PER_ACTOR, count_actors
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.settings import StageSettings
from aitax_ray.training.inference import count_classifiers
from aitax_ray.training.settings import InferenceSettings, TrainSettings
from aitax_ray.workspace import Workspace

MANY = 10**9  # photographs, when their number is not known yet


@dataclass(frozen=True)
class Demand:
    """Actors that a stage reserves, all at the same time; beside them tasks that read photographs take one CPU."""

    what: str
    count: int
    cpus_each: float
    gpus_each: float = 0
    memory_bytes_each: int = 0
    """Memory that each may take. Ray does not reserve it."""
    lower_with: str = ""

    @property
    def cpus(self) -> float:
        """CPUs of all, with that of the tasks that feed them."""
        return self.count * self.cpus_each + 1

    @property
    def gpus(self) -> float:
        """GPUs of all."""
        return self.count * self.gpus_each

    def __str__(self) -> str:
        gpus = f", {self.gpus_each:g} GPU" if self.gpus_each else ""
        memory = f", {self.memory_bytes_each / 1e9:g} GB of memory" if self.memory_bytes_each else ""
        each = f"{self.cpus_each:g} CPU{gpus}{memory}"
        return f"{self.count} {self.what} ({each} each), 1 CPU for reading: {self.cpus:g} CPUs, {self.gpus:g} GPUs"


def find_demand(settings: StageSettings, have: Resources, *, gpu: bool, num_photographs: int = MANY) -> Demand | None:
    """Find what a stage with these settings reserves in a cluster; None when it runs in one process without Ray."""
    match settings:
        case DownloadSettings():
            num, memory = count_actors(settings, have), settings.max_memory
            return Demand("download workers", num, CPUS_PER_ACTOR, 0, memory, "--num-actors")
        case TrainSettings():
            num = settings.min_workers or settings.count_workers(have.gpus if gpu else 0, num_photographs)
            return Demand("training workers", num, settings.cpus_per_worker, gpu, 0, "--num-workers, --cpus-per-worker")
        case InferenceSettings():
            num = settings.num_classifiers or count_classifiers(num_photographs, gpu, have)
            return Demand("classifiers", num, 1, gpu, 0, "--num-classifiers")
    return None


def describe(stage: str, demand: Demand | None, have: Resources) -> str:
    """Say in two lines what a stage asks of Ray, and what the cluster has."""
    asks = f"for {demand}" if demand else "for nothing: it is one process, with the cores of the node where it runs"
    return (
        f"{stage} asks Ray {asks}\n"
        f"the cluster has {have.cpus:g} CPUs, {have.gpus:g} GPUs, {have.memory_bytes / 1e9:,.1f} GB of memory and an "
        f"object store of {have.object_store_bytes / 1e9:,.1f} GB on {have.nodes} nodes\n"
    )


def show_demand(stage: str, settings: StageSettings) -> None:
    """Print what a stage will ask of the cluster. Raises ClusterError when the cluster does not have it."""
    connect()
    have, gpu = count_resources(), use_gpus(cast(bool | None, getattr(settings, "use_gpu", None)))
    report = Workspace(settings.root).report("download")
    number = report.counts.get("ok", MANY) if report else MANY
    demand = find_demand(settings, have, gpu=gpu, num_photographs=number)
    sys.stdout.write(describe(stage, demand, have))
    if demand and (demand.cpus > have.cpus or demand.gpus > have.gpus):
        remedy = f"lower {demand.lower_with}" + (", or take --no-use-gpu" if demand.gpus > have.gpus else "")
        raise ClusterError(f"{stage} would wait until the cluster grows: add nodes, or {remedy}")
