"""Compares the exported classifier with the trained one on photographs of the root, before it is published."""

import logging
from collections.abc import Iterable

import numpy as np

from aitax_ray.errors import EngineError
from aitax_ray.training.model import Classifier
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.predict import apply_classifier
from aitax_ray.training.transforms import EvalTransform

log = logging.getLogger(__name__)

NUM_IMAGES = 64
# Largest difference of a logit, if all logits are between -10 and 10. Otherwise 0.0001 times the largest logit.
TOLERANCE = 1e-3
EMBEDDING_TOLERANCE = 1e-3  # largest difference of an element of an embedding of unit length


def check_parity(
    classifier: Classifier,
    transform: EvalTransform,
    exported: OnnxClassifier,
    photographs: Iterable[tuple[np.ndarray, np.ndarray]],
) -> dict[str, float]:
    """Run both classifiers on pixels uint8 (N, H, W, 3), and return figures on their difference.

    Raises EngineError when a logit or an element of an embedding differs by more than its tolerance. Otherwise the best
    species is the same, unless the logits of two species differ by less than twice the tolerance.
    """
    expected, found = [], []
    for pixels, _ in photographs:
        expected.append(apply_classifier(classifier, transform, pixels))
        found.append(exported.predict(pixels))
    expected_embedding, expected_logits = (np.concatenate(part) for part in zip(*expected, strict=True))
    embedding, logits = (np.concatenate(part) for part in zip(*found, strict=True))
    with np.errstate(invalid="ignore"):  # values that are not finite raise EngineError below
        difference = float(np.abs(logits - expected_logits).max())
        embedding_difference = float(np.abs(embedding - expected_embedding).max())
        tolerance = TOLERANCE * max(1.0, float(np.abs(expected_logits).max()) / 10)
    num = len(logits)
    same = int((logits.argmax(axis=1) == expected_logits.argmax(axis=1)).sum())
    log.info(
        "ONNX and PyTorch on %d photographs: logits differ by up to %.1e, embeddings by %.1e; the same species for %d",
        num, difference, embedding_difference, same,
    )  # fmt: skip
    if not (difference <= tolerance and embedding_difference <= EMBEDDING_TOLERANCE):
        raise EngineError(
            f"the exported classifier does not predict as the trained one: on {num} photographs its logits differ by "
            f"up to {difference:.2g} ({tolerance:.2g} is allowed), its embeddings by {embedding_difference:.2g} "
            f"({EMBEDDING_TOLERANCE:.2g}), and it names the same species for {same}: train with another --arch"
        )
    return {
        "parity_images": num,
        "parity_logit_difference": difference,
        "parity_embedding_difference": embedding_difference,
        "parity_same_top1": same / num,
    }
