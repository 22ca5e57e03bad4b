"""Reduces the K logits per photograph to the few numbers that the figures of the evaluation need.

Predictor   INPUT row:  image_id, class_index, split, embedding, logits
Scorer      OUTPUT row: class_index, split, top (best 5), nll and max_probability at each temperature
"""

import numpy as np
import pyarrow as pa

from aitax_ray.evaluation.calibration import at_temperatures
from aitax_ray.training.predict import Predictor, as_lists, as_matrix

TOP = 5


class Scorer(Predictor):
    """A predictor that returns scores instead of logits."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Predict and score a batch."""
        return score(super().__call__(batch))


def score(predicted: pa.Table) -> pa.Table:
    """Score rows with `logits`, `class_index` and `split`."""
    logits, target = as_matrix(predicted["logits"]), predicted["class_index"].to_numpy()
    nll, max_probability = at_temperatures(logits, target)
    top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    columns = {
        "top": as_lists(top.astype(np.float32)),
        "nll": as_lists(nll),
        "max_probability": as_lists(max_probability),
    }
    return pa.table({"class_index": predicted["class_index"], "split": predicted["split"], **columns})
