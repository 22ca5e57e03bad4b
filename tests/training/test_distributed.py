from pathlib import Path
from typing import Any

import pytest

from aitax_ray import workspace
from aitax_ray.errors import AitaxError
from aitax_ray.training import distributed
from aitax_ray.training.distributed import fits_in_memory
from aitax_ray.training.train import train
from tests.small import train_settings, write_root


def test_photographs_fit_into_memory_when_they_fit_into_that_of_the_smallest_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def node(store: float, alive: bool = True) -> dict[str, Any]:
        return {"Alive": alive, "Resources": {"object_store_memory": store}}

    nodes = [node(100e9), node(4e9), node(1e9, alive=False)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    one = 256 * 256 * 3 * 1.4
    assert fits_in_memory(int(0.149 * 4e9 / one), 256)
    assert not fits_in_memory(int(0.151 * 4e9 / one), 256)


@pytest.mark.usefixtures("ray_session")
def test_training_works_without_validation_photographs(tmp_path: Path) -> None:
    ws = write_root(tmp_path, {"7K3": ["train"] * 9, "A12": ["train"] * 3, "Z9": ["train"]})
    report = train(train_settings(tmp_path, num_workers=1, epochs=2, optimizer="sgd", imbalanced=True))
    assert report.counts == {"species": 3, "train": 13, "val": 0, "epochs": 2, "best_epoch": 2}
    assert report.metrics == dict.fromkeys(("top1", "top5", "macro_top1", "loss"))
    assert all(row["train_loss"] > 0 and row["top1"] is None for row in ws.storage.read_json(workspace.HISTORY))


@pytest.mark.usefixtures("ray_session")
def test_a_worker_that_fails_ends_the_run_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: dict[str, Any]) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(distributed, "train_loop_per_worker", fail)
    ws = write_root(tmp_path, ["train", "val"])
    with pytest.raises(AitaxError, match=r"training failed \(.*out of memory.*same command goes on"):
        train(train_settings(tmp_path, num_workers=1, max_failures=0))
    assert ws.report("train") is None
