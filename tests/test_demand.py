from pathlib import Path

import pytest

from aitax_ray import cluster
from aitax_ray.cluster import Resources
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.demand import Demand, describe, find_demand, show_demand
from aitax_ray.errors import ClusterError
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.settings import StageSettings
from aitax_ray.training.settings import TrainSettings

BIG = Resources(nodes=2, cpus=32, gpus=2, memory_bytes=64e9, object_store_bytes=16e9)


@pytest.mark.parametrize(
    ("settings", "gpu", "cpus", "gpus"),
    [
        (DownloadSettings(root="r"), False, 8 * 0.1 + 1, 0),
        (DownloadSettings(root="r", num_actors=3), False, 1.3, 0),
        (TrainSettings(root="r", num_workers=4, cpus_per_worker=3), True, 13, 4),
        (TrainSettings(root="r", num_workers=4, min_workers=2), True, 3, 2),
        (TrainSettings(root="r"), False, 3, 0),
        (TrainSettings(root="r"), True, 3, 2),  # of the GPUs, not of the CPUs
        (EvaluateSettings(root="r"), False, 32, 0),
        (EvaluateSettings(root="r"), True, 3, 2),
        (EvaluateSettings(root="r", num_classifiers=5), True, 6, 5),
    ],
)
def test_a_stage_asks_for_what_its_settings_say(settings: StageSettings, gpu: bool, cpus: float, gpus: float) -> None:
    demand = find_demand(settings, BIG, gpu=gpu)
    assert demand is not None
    assert (demand.cpus, demand.gpus) == (pytest.approx(cpus), gpus)


def test_few_photographs_need_few_classifiers() -> None:
    demand = find_demand(EvaluateSettings(root="r"), BIG, gpu=False, num_photographs=10)
    assert demand is not None
    assert demand.count == 1


def test_a_stage_of_one_process_asks_for_nothing() -> None:
    assert find_demand(SplitSettings(root="r"), BIG, gpu=False) is None
    assert describe("split", None, BIG).splitlines()[0] == (
        "split asks Ray for nothing: it is one process, with the cores of the node where it runs"
    )


def test_the_two_lines_hold_what_is_asked_and_what_is_there() -> None:
    assert describe("train", Demand("training workers", 2, 4, 1), BIG).splitlines() == [
        "train asks Ray for 2 training workers (4 CPU, 1 GPU each), 1 CPU for reading: 9 CPUs, 2 GPUs",
        "the cluster has 32 CPUs, 2 GPUs, 64.0 GB of memory and an object store of 16.0 GB on 2 nodes",
    ]


@pytest.mark.usefixtures("ray_session")
def test_a_dry_run_fails_when_the_cluster_lacks_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    have = cluster.count_resources()
    assert (have.nodes, have.cpus) == (1, 4)
    show_demand("train", TrainSettings(root=str(tmp_path), num_workers=3, use_gpu=False))
    assert "3 training workers (1 CPU each), 1 CPU for reading: 4 CPUs, 0 GPUs" in capsys.readouterr().out
    with pytest.raises(
        ClusterError, match="train would wait until the cluster grows: add nodes, or lower --num-workers"
    ):
        show_demand("train", TrainSettings(root=str(tmp_path), num_workers=4, use_gpu=False))
