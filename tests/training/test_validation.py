import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aitax_ray.training.loop import Batch
from aitax_ray.training.validation import validate
from tests.colours import Given, Tiny, colours, take
from tests.small import one_thread
from tests.two_workers import second_worker


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


def test_logits_that_are_no_numbers_are_no_hits() -> None:
    logits = torch.tensor([[9.0, 0, 0], [math.nan] * 3, [math.inf, 0, 0]])[:, :, None, None]
    figures = validate(Given(), [(logits, torch.tensor([0, 0, 0]))], 3)
    assert not math.isfinite(figures["loss"])
    assert figures["top1"] == figures["top5"] == pytest.approx(1 / 3)


def test_validation_figures_are_those_of_a_sum_by_hand() -> None:
    # Seven classes; class 0 is right twice of three times, class 6 once of one, class 3 among the best five only.
    logits = torch.zeros(5, 7)
    logits[0, 0] = logits[1, 0] = logits[3, 6] = 10.0
    logits[2] = torch.tensor([1.0, 2, 3, 4, 5, 6, 7])  # class 0 comes last
    logits[4] = torch.tensor([7.0, 6, 5, 4, 3, 2, 1])  # class 3 comes fourth
    target = torch.tensor([0, 0, 0, 6, 3])
    pixels = logits[:, :, None, None]
    figures = validate(Given(), [(pixels[:2], target[:2]), (pixels[2:], target[2:])], 7)
    log_total = math.log(sum(math.exp(x) for x in range(1, 8)))
    certain = math.log(math.exp(10) + 6) - 10
    assert figures == {
        "loss": pytest.approx((3 * certain + log_total - 1 + log_total - 4) / 5, rel=1e-5),
        "top1": pytest.approx(3 / 5),
        "top5": pytest.approx(4 / 5),
        "macro_top1": pytest.approx((2 / 3 + 1 + 0) / 3),
    }


def test_without_photographs_every_figure_is_nan() -> None:
    figures = validate(Tiny(3), [], 3)
    assert set(figures) == {"loss", "top1", "top5", "macro_top1"}
    assert all(math.isnan(value) for value in figures.values())


def validate_as_one_of_two(rank: int, folder: Path) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Validate as a worker does; the first worker has no photographs."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, timeout=timedelta(seconds=60), rank=rank, world_size=2)
    try:
        measured = train_and_validate(rank)
        torch.distributed.barrier()  # a worker that leaves first breaks the connections of the other
        return measured
    finally:
        torch.distributed.destroy_process_group()


def train_and_validate(rank: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Learn from other photographs than the other worker, then validate.

    The network ends with this function, before the process group whose threads it uses.
    """
    torch.manual_seed(rank)
    model = nn.parallel.DistributedDataParallel(Tiny(3))
    model.train()(colours([2, 2, 2]).pixels)[1].sum().backward()
    photographs = validation_photographs()
    batches = [take(photographs, slice(0, 3)), take(photographs, slice(3, 5))] if rank else []
    return validate(model.module, batches, 3), model.module.state_dict()


def validation_photographs() -> Batch:
    torch.manual_seed(7)
    return colours([3, 1, 1])


def test_a_worker_without_photographs_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    with second_worker(validate_as_one_of_two, tmp_path):
        figures, state = validate_as_one_of_two(0, tmp_path)
    alone = Tiny(3)
    alone.load_state_dict(state)  # the checkpoint has the weights that were measured
    assert figures == pytest.approx(validate(alone, [validation_photographs()], 3))
