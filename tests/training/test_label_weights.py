"""Wrong labels of a machine, from the split to what the head learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split import split
from aitax_ray.training.feed import read_labels
from aitax_ray.training.head import Features, fit_linear, head_outputs
from aitax_ray.workspace import Workspace
from tests.dataset.test_split import MACHINE, store
from tests.small import one_thread

RIGHT_A, RIGHT_B, WRONG = 40, 65, 45  # the machine calls photographs of "a" by the name of "b": 30 % of all


def looks(species: str, name: str) -> np.ndarray:
    """Draw embeddings of two numbers for photographs of a species."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    return np.array([-1.0 if species == "a" else 1.0, 0.3]) + rng.normal(0, 0.4, 2)


def features(looks_of: list[np.ndarray], target: np.ndarray, weight: np.ndarray) -> Features:
    raw = np.stack(looks_of) if looks_of else np.zeros((0, 2))
    length = np.linalg.norm(raw, axis=1)
    return Features((raw / length[:, None]).astype(np.float16), length.astype(np.float32), target, weight)


def accuracy(root: Path, labels: str) -> float:
    """Split, fit a head to the training side, and measure it on new photographs with right labels."""
    names = [(f"a{n}", "a", {}) for n in range(RIGHT_A)] + [(f"b{n}", "b", {}) for n in range(RIGHT_B)]
    names += [(f"wrong{n}", "b", MACHINE) for n in range(WRONG)]
    stored = store(str(root), [(name, name, key) for name, key, _ in names], known={n: m for n, _, m in names})
    split(SplitSettings(root=stored, labels=labels))
    ws = Workspace(stored)
    if labels == "weighted":
        tested = read_labels(ws, "val", "test").image_ids.astype(str)
        assert not [name for name in tested if name.startswith("wrong")]
    train = read_labels(ws, "train")
    keys = train.image_ids.astype(str)
    shown = [looks("b" if key.startswith("b") else "a", key) for key in keys]
    head = torch.nn.Linear(2, 2)
    none = features([], np.zeros(0, np.int64), np.zeros(0, np.float32))
    with one_thread():
        weights = train.weight.astype(np.float32)
        fitted = features(shown, train.class_index.astype(np.int64), weights)
        fit_linear(head, fitted, none, torch.zeros(2), torch.ones(2), seed=0)
        new = [looks(species, f"new{species}{n}") for species in "ab" for n in range(100)]
        fresh = features(new, np.repeat([0, 1], 100), np.ones(200, np.float32))
        ((logits, target),) = head_outputs(head, fresh)
    return float((logits.argmax(1) == target).float().mean())


def test_wrong_labels_of_a_machine_do_less_harm_with_half_the_weight(tmp_path: Path) -> None:
    weighted = accuracy(tmp_path / "weighted", "weighted")
    believed = accuracy(tmp_path / "any", "any")
    assert weighted > 0.75
    assert weighted > believed + 0.1
    assert accuracy(tmp_path / "not", "not-machine") == pytest.approx(0.98, abs=0.03)
