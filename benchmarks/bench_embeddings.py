"""Compares computing embeddings as the frozen recipe does with PyTorch in eager mode, float32, on the same threads.

The claim: ONNX Runtime with small batches computes at least twice as many embeddings per second. Both sides get the
same cropped photographs, normalize them and use one thread. They take turns, so that a change of the machine's speed
meets both. Of the peer counts its best batch size and memory format. Times are of the processor, which other programs
on the machine hardly change.

    python benchmarks/bench_embeddings.py [--archs timm/tf_efficientnet_lite0 resnet18] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from aitax_ray.training.backbones import PACKAGED_ARCH, transform_for
from aitax_ray.training.model import Classifier, build_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform

NUM = 64  # photographs per turn
BATCHES = (8, 64)
Embed = Callable[[np.ndarray], None]


def ours(classifier: Classifier, transform: EvalTransform) -> Embed:
    """Embed as training.embeddings does."""
    session = OnnxClassifier(export_onnx(classifier, transform, unit_length=False), num_threads=1)

    def embed(pixels: np.ndarray) -> None:
        session.outputs(pixels, ["embedding"])

    return embed


def theirs(classifier: Classifier, transform: EvalTransform, batch: int, memory_format: torch.memory_format) -> Embed:
    """Embed with PyTorch, in batches."""

    def embed(pixels: np.ndarray) -> None:
        with torch.inference_mode():
            for at in range(0, len(pixels), batch):
                normalized = torch.from_numpy(transform.normalize(pixels[at : at + batch]))
                classifier(normalized.contiguous(memory_format=memory_format))

    return embed


def rate(embed: Embed, pixels: np.ndarray) -> float:
    """Measure the embeddings per second of processor time."""
    begin = time.process_time()
    embed(pixels)
    return len(pixels) / (time.process_time() - begin)


def main() -> None:
    """Measure each architecture and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=[PACKAGED_ARCH, "resnet18", "mobilenet_v3_large"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for arch in given.archs:
        transform = transform_for(arch, None)
        size = transform.crop_size
        classifier = build_classifier(arch, 2, size).eval()
        pixels = np.random.default_rng(0).integers(0, 256, (NUM, size, size, 3), dtype=np.uint8)
        sides = {"ours": ours(classifier, transform)}
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for batch in BATCHES:
                name = f"PyTorch, batches of {batch}, {str(memory_format).removeprefix('torch.')}"
                sides[name] = theirs(classifier, transform, batch, memory_format)
        for embed in sides.values():
            embed(pixels[:8])
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            for name, embed in sides.items():
                rates[name].append(rate(embed, pixels))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        mine = medians.pop("ours")
        best = max(medians, key=lambda name: medians[name])
        print(  # noqa: T201  a benchmark reports
            f"{arch} at {size} px: ours {mine:.0f} embeddings per second and thread, {best} {medians[best]:.0f}, "
            f"ratio {mine / medians[best]:.1f}"
        )


if __name__ == "__main__":
    main()
