import copy
import json
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from aitax_ray import workspace
from aitax_ray.schemas import image_id
from aitax_ray.training import feed, validation
from aitax_ray.training.augment import Augmentation
from aitax_ray.training.backbones import transform_for
from aitax_ray.training.batches import FromMemory
from aitax_ray.training.best import selection
from aitax_ray.training.curves import EXECUTION
from aitax_ray.training.execution import Execution
from aitax_ray.training.feed import collate_evaluation, decode_for_evaluation, decode_for_training
from aitax_ray.training.loop import to_batches
from aitax_ray.training.mixing import Mixing
from aitax_ray.training.model import build_classifier
from aitax_ray.training.schedule import Cosine
from aitax_ray.training.worker import Place, run_epochs
from aitax_ray.workspace import Workspace
from tests.small import ARCH, CROP, KEYS, jpeg, one_thread, photo, train_settings

TRANSFORM = transform_for(ARCH, CROP)
NUM_EPOCHS = 3
States = list[tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def photographs(numbers: dict[str, int]) -> pa.Table:
    rows = [
        {"image_id": image_id(f"{key}/{n}"), "class_index": KEYS.index(key), "weight": 1.0, "jpeg": jpeg(photo(key, n))}
        for key, num in numbers.items()
        for n in range(num)
    ]
    return pa.Table.from_pylist(rows)


TRAIN = photographs({"7K3": 5, "A12": 3, "Z9": 1})
VAL = photographs({"7K3": 2, "Z9": 2})


def run(root: Path, *, val: bool = True, state: dict[str, Any] | None = None, **changes: Any) -> States:
    """Run the epochs alone in this process; returns what was reported."""
    settings = train_settings(root, **{"epochs": NUM_EPOCHS, **changes})
    config = {
        "root": str(root),
        "settings": settings.model_dump(),
        "lr": settings.learning_rate(),
        "transform": TRANSFORM.model_dump(),
        "frequencies": [5, 3, 1],
    }
    train_source = FromMemory(decode_for_training(TRAIN, 40), 4, 0, 1, settings.seed)
    val_source = FromMemory(decode_for_evaluation(VAL, TRANSFORM), 4, 0, 1, settings.seed) if val else None
    reported: States = []

    def report(state: dict[str, Any], row: dict[str, Any]) -> None:
        reported.append((copy.deepcopy(state), row))

    place = Place(rank=0, world=1, local_world=os.cpu_count() or 1, device=torch.device("cpu"))
    torch.manual_seed(settings.seed)
    start = build_classifier(ARCH, len(KEYS), CROP).state_dict()
    run_epochs(config, place, train_source, val_source, start, state, report, lambda classifier: classifier)
    return reported


def stored_history(root: Path) -> list[dict[str, Any]]:
    """The history, read as strict JSON: there NaN and Infinity are errors."""
    lines = Workspace(str(root)).storage.read_bytes(workspace.HISTORY).splitlines()
    return [json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON")) for line in lines]


def test_each_epoch_is_reported_with_its_state_and_stored(tmp_path: Path) -> None:
    reported = run(tmp_path)
    assert [row["epoch"] for _, row in reported] == [1, 2, 3]
    assert stored_history(tmp_path) == reported[-1][0]["history"] == [row for _, row in reported]
    assert set(reported[0][1]) == {
        *("epoch", "train_loss", "train_top1", "lr", "loss", "top1", "top5", "macro_top1"),
        *("seconds", "images_per_s", "wait_share"),
    }
    assert 0 <= reported[0][1]["wait_share"] <= 1
    assert reported[0][1]["images_per_s"] >= 8 / reported[0][1]["seconds"]
    assert None not in reported[0][1].values()


def test_without_validation_photographs_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    rows = [row for _, row in run(tmp_path, val=False, optimizer="sgd", imbalanced=True)]
    assert all(row["train_loss"] > 0 for row in rows)
    assert all(row[name] is None for row in rows for name in ("loss", "top1", "top5", "macro_top1"))
    assert max(rows, key=selection)["epoch"] == NUM_EPOCHS


@pytest.mark.parametrize(
    "changes",
    [
        {
            "optimizer": "adamw",
            "ema": 0.9,
            "schedule": "cosine",
            "layer_decay": 0.8,
            "accumulate": 2,
            "mixup": 0.2,
            "cutmix": 1.0,
            "augment": "trivial",
            "final_epochs": 1,
        },
        {"optimizer": "sgd", "schedule": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.5},
    ],
)
def test_an_interrupted_run_gives_the_numbers_of_one_that_was_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    full_run = run(tmp_path, **changes)
    rest = run(tmp_path, state=full_run[0][0], **changes)
    assert [row["epoch"] for _, row in rest] == [2, 3]
    assert len({row["lr"] for _, row in full_run}) > 1
    for (state, row), (full_state, full_row) in zip(rest, full_run[1:], strict=True):
        assert without_times(row) == pytest.approx(without_times(full_row), rel=1e-4)
        for name, tensor in full_state["model"].items():
            torch.testing.assert_close(state["model"][name], tensor)


def test_the_way_to_compute_is_chosen_stored_and_kept(tmp_path: Path) -> None:
    ((state, row),) = run(tmp_path, epochs=1, precision="auto", compile="auto")
    chosen = Execution(*state["learner"]["execution"])
    assert Workspace(str(tmp_path)).storage.read_json(EXECUTION) == str(chosen)
    assert not chosen.compiled  # a short run
    assert row["train_loss"] > 0
    state["learner"]["execution"] = (True, False, False)
    rest = run(tmp_path, epochs=2, precision="auto", compile="auto", state=state)
    assert rest[0][0]["learner"]["execution"] == (True, False, False)


def test_networks_learn_in_bfloat16_almost_as_in_float32(tmp_path: Path) -> None:
    rows = [run(tmp_path, precision=precision)[0][1] for precision in ("bfloat16", "float32")]
    assert rows[0]["train_loss"] != rows[1]["train_loss"]
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=0.05)


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("seconds", "images_per_s", "wait_share")}


def test_the_last_epochs_are_neither_mixed_nor_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augmented: dict[int, Augmentation] = {}
    mixed: set[int] = set()
    collate = feed.collate_training

    def collate_and_note(batch: Any, augmentation: Augmentation, epoch: int) -> Any:
        augmented[epoch] = augmentation
        return collate(batch, augmentation, epoch)

    def mix_and_note(self: Any, pixels: Any, label: Any, epoch: int, step: int) -> Any:
        mixed.add(epoch)
        return pixels, (label,)

    monkeypatch.setattr(feed, "collate_training", collate_and_note)
    monkeypatch.setattr(Mixing, "__call__", mix_and_note)
    changes = {"augment": "trivial", "min_scale": 0.3, "random_erasing": 0.5, "vertical_flip": True, "seed": 4}
    run(tmp_path, mixup=0.2, final_epochs=1, **changes)
    strong = Augmentation(CROP, "trivial", min_scale=0.3, vertical_flip=True, random_erasing=0.5, seed=4)
    assert augmented == {0: strong, 1: strong, 2: strong.weak()}
    assert mixed == {0, 1}


@pytest.mark.parametrize(
    ("changes", "num_epochs"),
    [
        ({"max_minutes": 1e-9}, 1),
        ({"max_minutes": 60.0}, NUM_EPOCHS),
        ({"stop_after": 1, "select_by": "macro_top1"}, 2),
        ({"stop_after": 3}, NUM_EPOCHS),
    ],
)
def test_a_run_may_end_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], num_epochs: int
) -> None:
    losses = iter([0.5, 0.6, 0.7])
    monkeypatch.setattr(
        validation, "validate", lambda *_: {"loss": next(losses), "top1": 1.0, "top5": 1.0, "macro_top1": 1.0}
    )
    reported = run(tmp_path, **changes)
    assert len(reported) == len(stored_history(tmp_path)) == num_epochs
    # The schedule is that of the full run.
    assert reported[-1][1]["lr"] == pytest.approx(Cosine(1e-3, NUM_EPOCHS).at(num_epochs))
    Workspace(str(tmp_path)).storage.delete(workspace.HISTORY)
    assert run(tmp_path, state=reported[-1][0], **changes) == []
    assert len(stored_history(tmp_path)) == num_epochs


def test_the_moving_average_is_validated_and_published(tmp_path: Path) -> None:
    ((state, row),) = run(tmp_path, epochs=1, ema=0.5, lr=0.01)
    learner = state["learner"]
    for name, tensor in learner["ema"]["network"].items():
        assert torch.equal(state["model"][name], tensor)
    assert not torch.equal(state["model"]["head.weight"], learner["network"]["head.weight"])
    assert learner["ema"]["step"] == 2  # 9 photographs in steps of 4; the last one is dropped
    published = build_classifier(ARCH, len(KEYS), CROP)
    published.load_state_dict(state["model"])
    val = FromMemory(decode_for_evaluation(VAL, TRANSFORM), 4, 0, 1, 0)
    batches = to_batches(val.validation(4, partial(collate_evaluation, crop_size=CROP)), TRANSFORM)
    assert validation.validate(published, batches, len(KEYS))["loss"] == pytest.approx(row["loss"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_loss_that_is_no_number_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    losses = iter([0.7, bad, 0.6])
    monkeypatch.setattr(
        validation, "validate", lambda *_: {"loss": next(losses), "top1": 1.0, "top5": 1.0, "macro_top1": 1.0}
    )
    run(tmp_path)
    history = stored_history(tmp_path)
    assert [row["loss"] for row in history] == [0.7, None, 0.6]
    assert sorted([1, 2, 3], key=lambda epoch: selection(history[epoch - 1])) == [2, 1, 3]


def test_training_that_diverges_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    reported = run(tmp_path, lr=1e30, epochs=30)
    history = stored_history(tmp_path)
    assert history[-1]["train_loss"] is None
    assert len(history) < 30
    assert [row["epoch"] for _, row in reported] == list(range(1, len(history)))
    assert all(torch.isfinite(tensor).all() for state, _ in reported for tensor in state["model"].values())
