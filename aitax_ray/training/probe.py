"""Trains the head alone: Ray Data computes embeddings with the frozen backbone, and this process trains the head."""

import logging
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aitax_ray import workspace
from aitax_ray.errors import DataError
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from aitax_ray.training.embeddings import Network
    from aitax_ray.training.model import ClassifierInfo
    from aitax_ray.training.settings import TrainSettings

log = logging.getLogger(__name__)


def train_head(
    ws: Workspace,
    settings: "TrainSettings",
    info: "ClassifierInfo",
    network: "Network",
    frequencies: list[int],
    is_last: bool,
) -> tuple[list[dict[str, Any]], float]:
    """Train the head of the network. Returns a row per penalty or scale, and the strength of the logit adjustment.

    The rows are also stored as the history. `is_last` is whether the head is not trained again later. In the last
    training, `long_tail` crt gives all species the same weight.
    """
    import torch

    from aitax_ray.training.embeddings import embed
    from aitax_ray.training.feed import read_labels
    from aitax_ray.training.head import fit_linear, fit_prototypes, head_outputs, read_features
    from aitax_ray.training.history import write_history
    from aitax_ray.training.long_tail import adjusted_hits, balanced_weights, choose_strength, class_weights, log_prior
    from aitax_ray.training.model import PrototypeHead

    labels, val_labels = read_labels(ws, "train"), read_labels(ws, "val")
    stored = embed(ws, settings, info, network, read_labels(ws, "train", "val"))
    prior, head = log_prior(frequencies), network.classifier.head
    with tempfile.TemporaryDirectory() as folder:
        train = read_features(stored, labels, settings.views, Path(folder))
        val = read_features(stored, val_labels, 1, Path(folder))
        if not (train.length > 0).all():
            raise DataError(f"{workspace.VIEWS} lacks photographs of the split: run `aitax train --force`")
        if isinstance(head, PrototypeHead):
            history = fit_prototypes(head, train, val)
        else:
            in_loss = settings.long_tail in ("loss", "balanced-softmax")
            offset = prior if in_loss else torch.zeros_like(prior)
            is_balanced = settings.long_tail == "crt" and is_last
            weights = balanced_weights(frequencies) if is_balanced else class_weights(frequencies, settings.imbalanced)
            history = fit_linear(head, train, val, offset, weights, settings.seed, is_start=not is_last)
        strength = 0.0
        if settings.long_tail == "adjust" and len(val):
            hits = ((adjusted_hits(logits, target, prior), target) for logits, target in head_outputs(head, val))
            strength = choose_strength(hits, len(frequencies))
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in history
    ]
    write_history(ws.storage, rows)
    return rows, strength
