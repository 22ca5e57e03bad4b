from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn

from aitax_ray.training.collective import all_reduce, is_shared, mean_of_workers, share_buffers
from tests.two_workers import second_worker


def as_one_of_two(rank: int, folder: Path) -> list[float]:
    """Sum, average and share as a worker does; the first worker checks in the test, the second one here."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, timeout=timedelta(seconds=60), rank=rank, world_size=2)
    try:
        norm = nn.BatchNorm1d(2)
        norm.running_mean.fill_(rank + 5)  # type: ignore[union-attr]
        share_buffers(norm)
        found = [
            all_reduce(torch.tensor([rank + 1.0])).item(),
            mean_of_workers(rank * 4.0),
            norm.running_mean[0].item(),
        ]  # type: ignore[index]
        torch.distributed.barrier()  # a worker that leaves first breaks the connections of the other
        assert found == [3.0, 2.0, 5.0]
        return found
    finally:
        torch.distributed.destroy_process_group()


def test_workers_have_the_same_sums_means_and_buffers(tmp_path: Path) -> None:
    with second_worker(as_one_of_two, tmp_path):
        assert as_one_of_two(0, tmp_path) == [3.0, 2.0, 5.0]


def test_a_single_worker_keeps_its_figures() -> None:
    assert not is_shared()
    assert all_reduce(torch.tensor([1.5, 2.0])).tolist() == [1.5, 2.0]
    assert mean_of_workers(3.25) == pytest.approx(3.25)
    norm = nn.BatchNorm1d(2)
    share_buffers(norm)
    assert norm.running_mean.tolist() == [0, 0]  # type: ignore[union-attr]
