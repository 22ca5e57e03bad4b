import copy
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aitax_ray.training.ema import Ema
from aitax_ray.training.long_tail import log_prior
from aitax_ray.training.loop import Batch, split_parts, to_batches
from aitax_ray.training.loss import Label, Loss
from aitax_ray.training.mixing import Mixing
from aitax_ray.training.model import Classifier
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.training.validation import validate
from tests.colours import Given, Tiny, batch, colours, learner, take
from tests.small import one_thread
from tests.two_workers import second_worker


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


def fit(model: nn.Module, photographs: Batch, loss: Loss, epochs: int = 15) -> list[dict[str, float]]:
    made = learner(model, lr=0.05, epochs=epochs, optimizer="adamw", loss=loss)
    order = torch.randperm(len(photographs.pixels))
    batches = [take(photographs, part) for part in order.split(16)]
    return [made.train_epoch(batches, epoch, len(batches)) for epoch in range(epochs)]


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
    pixels = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])[:, :, None, None]
    photographs = batch(pixels, torch.tensor([0, 0, 0, 1, 1]))
    batches = [take(photographs, slice(0, 3)), take(photographs, slice(3, 5))]
    row = learner(Given(), lr=1e-9).train_epoch(batches, 0, 2)
    assert row["train_top1"] == pytest.approx(4 / 5)
    assert row["train_loss"] == pytest.approx((9 + 5 * math.log1p(math.exp(-9))) / 5, rel=1e-5)


def test_the_loss_of_an_epoch_is_the_weighted_mean() -> None:
    photographs = Batch(torch.zeros(2, 2, 1, 1), torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    photographs.pixels[:, 0] = 2.0
    row = learner(Given(), lr=1e-9).train_epoch([photographs], 0, 1)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert row["train_loss"] == pytest.approx((right + 3 * wrong) / 4)
    assert row["train_top1"] == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_ends_at_the_first_gradient_that_is_not_finite(bad: float) -> None:
    model = Tiny(2)
    good = colours([4, 4])
    worse = good._replace(pixels=torch.full_like(good.pixels, bad))
    seen: list[int] = []
    batches = (seen.append(number) or batch for number, batch in enumerate([good, worse, good]))  # type: ignore[func-returns-value]
    made = learner(model)
    made.ema = Ema(model, 0.9)
    row = made.train_epoch(batches, 0, 3)
    assert math.isnan(row["train_loss"])
    assert seen == [0, 1]
    assert all(p.isfinite().all() for network in (model, made.result) for p in network.parameters())


def test_the_moving_average_follows_the_steps_and_is_the_result() -> None:
    torch.manual_seed(3)
    model = Tiny(2)
    before = model.head.weight.detach().clone()
    made = learner(model, lr=0.5, ema=Ema(model, 0.5))
    made.train_epoch([colours([4, 4])], 0, 1)
    now, mean = model.head.weight, made.result.head.weight  # type: ignore[union-attr]
    assert not torch.allclose(now, before)
    torch.testing.assert_close(mean, 0.1 * before + 0.9 * now.detach())  # the decay of the first step is 1 / 10
    assert learner(model).result is model


def gradients(accumulate: int, num: int = 6, loss: Loss | None = None) -> list[Tensor]:
    torch.manual_seed(1)
    model = Tiny(2)
    model.norm.eval()
    made = learner(model, accumulate=accumulate, loss=loss, clip_norm=1e9)
    photographs = take(colours([num, num]), slice(0, num))._replace(weight=torch.rand(num))
    model.train = lambda *_: model  # type: ignore[method-assign] # batch statistics differ between parts
    made.train_epoch([photographs], 0, 1)
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(("accumulate", "num"), [(2, 6), (3, 7), (100, 6)])
def test_a_step_in_parts_has_the_same_gradient(accumulate: int, num: int) -> None:
    loss = Loss(0.1, log_prior([3, 1]), torch.tensor([1.0, 4.0]))
    assert len(gradients(1, num, loss)) == 4
    for of_parts, at_once in zip(gradients(accumulate, num, loss), gradients(1, num, loss), strict=True):
        torch.testing.assert_close(of_parts, at_once)


def test_parts_cover_the_batch_and_keep_the_labels_together() -> None:
    numbers = torch.arange(7)
    target = (Label(numbers, numbers.float(), 0.7), Label(numbers + 10, numbers + 0.5, 0.3))
    parts = list(split_parts(numbers[:, None], target, 3))
    assert [len(pixels) for pixels, _ in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([pixels for pixels, _ in parts])[:, 0], numbers)
    for number, label in enumerate(target):
        own = [labels[number] for _, labels in parts]
        assert torch.equal(torch.cat([part.class_index for part in own]), label.class_index)
        assert torch.equal(torch.cat([part.weight for part in own]), label.weight)
        assert {part.share for part in own} == {label.share}


def test_a_large_gradient_is_scaled_down() -> None:
    steps = []
    for clip_norm in (1e9, 0.01):
        model = Given()
        made = learner(model, lr=1.0, clip_norm=clip_norm)
        made.train_epoch([batch(torch.tensor([[5.0, 0.0]] * 2)[:, :, None, None], torch.tensor([1, 1]))], 0, 1)
        steps.append(abs(model.one.item() - 1))
    # The first step of the warm-up has 1 / 100 of the rate, and Nesterov's momentum almost doubles it.
    assert steps[0] > 1e-2
    assert 0 < steps[1] < 1e-2 * 1e-2 * 2


@pytest.mark.gpu
def test_a_gpu_learns_as_a_cpu_does() -> None:
    photographs = colours([6, 6])
    rows, models = [], [Tiny(2), Tiny(2).cuda()]
    models[1].load_state_dict(models[0].state_dict())
    for model, device in zip(models, ("cpu", "cuda"), strict=True):
        moved = Batch(*(column.to(device) for column in photographs))
        rows.append(learner(model).train_epoch([moved], 0, 1))
        rows[-1] |= validate(model, [moved], 2)
    assert rows[1] == pytest.approx(rows[0], rel=0.05)  # bfloat16


def test_logit_adjustment_finds_more_of_the_rare_class() -> None:
    numbers, spread = (
        [400, 12],
        6.0,
    )  # far more noise than signal: always predicting the frequent class has the best top-1
    torch.manual_seed(1)
    photographs, unseen = colours(numbers, spread), colours([300, 300], spread)
    rare = take(unseen, slice(300, None))
    recall = {}
    for name, loss in (("plain", Loss()), ("adjusted", Loss(log_prior=log_prior(numbers)))):
        torch.manual_seed(2)
        model = Tiny(2)
        fit(model, photographs, loss)
        recall[name] = (validate(model, [rare], 2)["top1"], validate(model, [unseen], 2)["macro_top1"])
    assert recall["adjusted"][0] > recall["plain"][0] + 0.2
    assert recall["adjusted"][1] > recall["plain"][1] + 0.05


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_single_photograph_is_a_batch(accumulate: int) -> None:
    model = Tiny(2)
    before = model.head.bias.detach().clone()
    made = learner(model, epochs=2, accumulate=accumulate)
    row = made.train_epoch([batch(torch.randn(1, 3, 1, 1), torch.tensor([1]))], 1, 1)
    assert row["train_loss"] == pytest.approx(math.log(2), abs=0.7)
    assert row["train_top1"] in (0.0, 1.0)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not torch.equal(model.head.bias, before)


def test_batches_are_normalized_as_the_service_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    transform = EvalTransform(crop_size=4, resize_size=4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    collated = [{"pixels": torch.from_numpy(pixels), "class_index": torch.tensor([0, 1])}]
    collated[0]["weight"] = torch.tensor([1.0, 0.5])
    ((found, class_index, weight),) = to_batches(collated, transform)
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), transform.normalize(pixels), atol=1e-5)
    assert class_index is collated[0]["class_index"]
    assert weight.tolist() == [1, 0.5]


def test_the_time_that_batches_are_waited_for_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def batches() -> Iterator[Batch]:
        for _ in range(3):
            clock[0] += 2.0
            yield colours([2, 2])
        clock[0] += 1.0  # to see that there are no more

    made = learner(Tiny(2))
    made.optimizer.register_step_pre_hook(lambda *_: clock.__setitem__(0, clock[0] + 1.0))
    row = made.train_epoch(batches(), 0, 3)
    assert row["wait_share"] == pytest.approx(7 / 10)
    assert row["images_per_s"] == pytest.approx(12 / 10)


def test_mixed_photographs_are_hits_when_the_larger_share_is_right() -> None:
    pixels = torch.tensor([[9.0, 0.0], [0.0, 9.0]] * 8)[:, :, None, None]
    photographs = batch(pixels, torch.tensor([0, 1] * 8))
    made = learner(Given(), lr=1e-9, mixing=Mixing(mixup=0.5, cutmix=0, seed=1))
    mixed = made.train_epoch([photographs] * 5, 0, 5)
    made.mixing = None
    plain = made.train_epoch([photographs] * 5, 0, 5)
    assert mixed["train_top1"] == plain["train_top1"] == 1
    assert mixed["train_loss"] > 100 * plain["train_loss"]


def learn_as_one_of_two(rank: int, folder: Path) -> dict[str, Tensor]:
    """Learn from half of the photographs, in two parts."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, timeout=timedelta(seconds=60), rank=rank, world_size=2)
    try:
        network = frozen_norm()
        made = learner(network, accumulate=2)
        # The network that is shared ends with this function, before the process group whose threads it uses.
        made.model = nn.parallel.DistributedDataParallel(network)
        made.train_epoch([take(shared_photographs(), slice(rank, None, 2))], 0, 1)
        del made
        torch.distributed.barrier()  # a worker that leaves first breaks the connections of the other
        return network.state_dict()
    finally:
        torch.distributed.destroy_process_group()


def frozen_norm() -> Tiny:
    """A network whose results for a photograph do not depend on the others of the batch."""
    torch.manual_seed(5)
    network = Tiny(3)
    network.norm = nn.GroupNorm(1, 3)  # type: ignore[assignment]
    return network


def shared_photographs() -> Batch:
    torch.manual_seed(7)
    return colours([4, 2, 2])


def test_workers_that_accumulate_learn_as_one_worker_does(tmp_path: Path) -> None:
    with second_worker(learn_as_one_of_two, tmp_path):
        state = learn_as_one_of_two(0, tmp_path)
    alone = frozen_norm()
    before = copy.deepcopy(alone.state_dict())
    learner(alone).train_epoch([shared_photographs()], 0, 1)
    assert not torch.allclose(alone.head.weight, before["head.weight"])
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(state[name], tensor)


def test_frozen_statistics_of_batch_normalization_stay_while_its_weights_learn() -> None:
    def train(**changes: Any) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        model = Classifier(network, 4, 2)
        start = copy.deepcopy(model)
        made = learner(model, epochs=1, **changes)
        made.train_epoch([batch(torch.randn(6, 3, 4, 4), torch.tensor([0, 1] * 3))], 0, 1)
        return start.backbone[1], model.backbone[1]

    before, after = train(freeze_norm=True)
    assert torch.equal(before.running_mean, after.running_mean)
    assert not torch.equal(before.bias, after.bias)
    before, after = train(freeze_norm=False)
    assert not torch.equal(before.running_mean, after.running_mean)
