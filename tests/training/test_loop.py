import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aitax_ray.training import loop
from aitax_ray.training.loop import Loss, Schedule, make_optimizer, to_batches, train_epoch, validate
from tests.small import one_thread


class Tiny(nn.Module):
    """Two means of the pixels, normalized, and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, num_classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.norm(pixels).mean((2, 3))
        return embedding, self.head(embedding)


class Given(nn.Module):
    """Returns the photographs as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return pixels, self.one * pixels.flatten(1)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


def colours(numbers: list[int], spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Draw `numbers` photographs per class; the channel with the number of the class is brighter."""
    target = torch.tensor([index for index, num in enumerate(numbers) for _ in range(num)])
    pixels = spread * torch.randn(len(target), 3, 4, 4)
    pixels[torch.arange(len(target)), target] += 1.0
    return pixels, target


def fit(model: nn.Module, data: tuple[Tensor, Tensor], loss: Loss, epochs: int = 15) -> list[dict[str, float]]:
    schedule, optimizer = Schedule(0.05, epochs), make_optimizer(model, "adamw", 0.05, 0.9, 0.0)
    order = torch.randperm(len(data[1]))
    batches = [(data[0][part], data[1][part]) for part in order.split(16)]
    return [train_epoch(model, batches, optimizer, loss, schedule, e, len(batches)) for e in range(epochs)]


def test_the_learning_rate_rises_then_falls() -> None:
    schedule = Schedule(0.4, epochs=20, warmup=0.1)
    assert schedule.at(0) == pytest.approx(0.004)
    assert schedule.at(1) == pytest.approx(0.2)
    assert schedule.at(2) == pytest.approx(0.4)
    assert schedule.at(11) == pytest.approx(0.2, rel=0.01)
    assert schedule.at(20) == schedule.at(25) == pytest.approx(0.0004)
    rates = [schedule.at(epoch / 4) for epoch in range(81)]
    assert rates[:9] == sorted(rates[:9])
    assert rates[8:] == sorted(rates[8:], reverse=True)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_vectors_have_no_weight_decay(name: str, kind: type) -> None:
    model = Tiny(2)
    optimizer = make_optimizer(model, name, 0.1, 0.9, 0.05)  # type: ignore[arg-type]
    assert isinstance(optimizer, kind)
    decayed = {id(p) for group in optimizer.param_groups for p in group["params"] if group["weight_decay"]}
    assert decayed == {id(model.head.weight)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_frozen_parameters_are_not_optimized() -> None:
    model = Tiny(2)
    model.norm.requires_grad_(False)
    optimizer = make_optimizer(model, "adamw", 0.1, 0.9, 0.05)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_a_model_learns_what_can_be_learned() -> None:
    model = Tiny(3)
    rows = fit(model, colours([40, 40, 40]), Loss(label_smoothing=0.1))
    assert rows[0]["train_loss"] > rows[-1]["train_loss"]
    assert rows[-1]["train_top1"] > 0.95
    assert rows[-1]["lr"] == pytest.approx(0.05 / 1000)
    figures = validate(model, [colours([20, 20, 20])], 3)
    assert figures["top1"] > 0.95
    assert figures["macro_top1"] > 0.95
    assert figures["top5"] == 1.0
    assert not model.training


def test_the_figures_of_an_epoch_weigh_each_photograph_the_same() -> None:
    model = Given()
    still = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0)
    pixels = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])[:, :, None, None]
    target = torch.tensor([0, 0, 0, 1, 1])
    batches = [(pixels[:3], target[:3]), (pixels[3:], target[3:])]
    row = train_epoch(model, batches, still, Loss(), Schedule(0.1, 1), 0, 2)
    assert row["train_top1"] == pytest.approx(4 / 5)
    assert row["train_loss"] == pytest.approx((9 + 5 * math.log1p(math.exp(-9))) / 5, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_ends_at_the_first_gradient_that_is_not_finite(bad: float) -> None:
    model = Tiny(2)
    optimizer = make_optimizer(model, "sgd", 0.1, 0.9, 0.0)
    pixels, target = colours([4, 4])
    good, worse = (pixels, target), (torch.full_like(pixels, bad), target)
    seen: list[int] = []
    batches = (seen.append(number) or batch for number, batch in enumerate([good, worse, good]))  # type: ignore[func-returns-value]
    row = train_epoch(model, batches, optimizer, Loss(), Schedule(0.1, 1), 0, 3)
    assert math.isnan(row["train_loss"])
    assert seen == [0, 1]
    assert all(p.isfinite().all() for p in model.parameters())


def test_logits_that_are_no_numbers_are_no_hits() -> None:
    logits = torch.tensor([[9.0, 0, 0], [math.nan] * 3, [math.inf, 0, 0]])[:, :, None, None]
    figures = validate(Given(), [(logits, torch.tensor([0, 0, 0]))], 3)
    assert not math.isfinite(figures["loss"])
    assert figures["top1"] == figures["top5"] == pytest.approx(1 / 3)


def test_the_figures_of_a_batch_are_summed_where_the_batch_is() -> None:
    # "meta" stands for a GPU: mixing its tensors with those of the CPU fails too.
    figures = loop._figures(*(torch.zeros(shape, device="meta") for shape in ((), (3, 2), (3,))))
    assert (figures.device.type, figures.shape) == ("meta", (3,))


@pytest.mark.gpu
def test_a_gpu_learns_as_a_cpu_does() -> None:
    pixels, target = colours([6, 6])
    rows, models = [], [Tiny(2), Tiny(2).cuda()]
    models[1].load_state_dict(models[0].state_dict())
    for model, device in zip(models, ("cpu", "cuda"), strict=True):
        optimizer = make_optimizer(model, "sgd", 0.1, 0.9, 0.0)
        batch = (pixels.to(device), target.to(device))
        rows.append(train_epoch(model, [batch], optimizer, Loss(), Schedule(0.1, 1), 0, 1))
        rows[-1] |= validate(model, [batch], 2)
    assert rows[1] == pytest.approx(rows[0], rel=0.05)  # bfloat16


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


def test_logit_adjustment_finds_more_of_the_rare_class() -> None:
    numbers, spread = [400, 12], 6.0  # far more noise than signal: guessing the frequent class pays
    prior = torch.log(torch.tensor(numbers) / sum(numbers))
    torch.manual_seed(1)
    data, unseen = colours(numbers, spread), colours([300, 300], spread)
    rare = (unseen[0][300:], unseen[1][300:])
    recall = {}
    for name, loss in (("plain", Loss()), ("adjusted", Loss(log_prior=prior))):
        torch.manual_seed(2)
        model = Tiny(2)
        fit(model, data, loss)
        recall[name] = (validate(model, [rare], 2)["top1"], validate(model, [unseen], 2)["macro_top1"])
    assert recall["adjusted"][0] > recall["plain"][0] + 0.2
    assert recall["adjusted"][1] > recall["plain"][1] + 0.05


def test_logits_that_equal_the_prior_are_no_surprise_to_the_adjusted_loss() -> None:
    prior = torch.log(torch.tensor([0.9, 0.1]))
    loss = Loss(log_prior=prior)(torch.zeros(1, 2), torch.tensor([1]))
    assert loss.item() == pytest.approx(-math.log(0.1))


def test_a_single_photograph_is_a_batch() -> None:
    model = Tiny(2)
    optimizer = make_optimizer(model, "sgd", 0.1, 0.9, 0.0)
    before = model.head.bias.detach().clone()
    data = (torch.randn(1, 3, 1, 1), torch.tensor([1]))
    row = train_epoch(model, [data], optimizer, Loss(), Schedule(0.1, 2), 1, 1)
    assert row["train_loss"] == pytest.approx(math.log(2), abs=0.7)
    assert row["train_top1"] in (0.0, 1.0)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not torch.equal(model.head.bias, before)


def test_batches_are_unpacked_for_convolutions() -> None:
    collated = [{"pixels": torch.randn(2, 3, 4, 4), "class_index": torch.tensor([0, 1])}]
    ((pixels, target),) = to_batches(collated)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, collated[0]["pixels"])
    assert target is collated[0]["class_index"]


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
    model.train()(colours([2, 2, 2])[0])[1].sum().backward()
    pixels, target = validation_photographs()
    batches = [(pixels[:3], target[:3]), (pixels[3:], target[3:])] if rank else []
    return validate(model, batches, 3), model.module.state_dict()


def validation_photographs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(7)
    return colours([3, 1, 1])


def test_a_worker_without_photographs_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    other = torch.multiprocessing.get_context("spawn").Process(target=validate_as_one_of_two, args=(1, tmp_path))
    other.start()
    figures, state = validate_as_one_of_two(0, tmp_path)
    other.join()
    assert other.exitcode == 0
    alone = Tiny(3)
    alone.load_state_dict(state)  # what the checkpoint holds is what was measured
    assert figures == pytest.approx(validate(alone, [validation_photographs()], 3))
