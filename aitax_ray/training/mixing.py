"""Mixup and CutMix: pairs of photographs of a batch are mixed, and so are their labels.

Zhang et al. 2018, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aitax_ray.training.loss import Label, Target


@dataclass(frozen=True)
class Mixing:
    """Mixes each batch with mixup or with CutMix, chosen at random. Random numbers depend on seed, epoch and step.

    At least one of `mixup` and `cutmix` must be above 0.
    """

    mixup: float
    """Alpha of mixup. The share of each photograph is drawn from Beta(alpha, alpha). 0: no mixup."""
    cutmix: float
    """Alpha of CutMix. The share of the area is drawn from Beta(alpha, alpha). 0: no CutMix."""
    seed: int
    """Seed of this worker."""

    def __call__(self, pixels: Tensor, label: Label, epoch: int, step: int) -> tuple[Tensor, Target]:
        """Mix each photograph of pixels (N, 3, H, W) with another one. `pixels` may be changed in place."""
        rng = np.random.default_rng((self.seed, epoch, step))
        ways = [(way, alpha) for way, alpha in ((_mix, self.mixup), (_paste, self.cutmix)) if alpha]
        way, alpha = ways[int(rng.integers(len(ways)))]
        other = torch.from_numpy(rng.permutation(len(pixels))).to(pixels.device)
        pixels, share = way(pixels, other, float(rng.beta(alpha, alpha)), rng)
        labels = (
            label._replace(share=share),
            Label(label.class_index[other], label.weight[other], 1 - share),
        )
        return pixels, labels if share >= 0.5 else labels[::-1]


def _mix(pixels: Tensor, other: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    return torch.lerp(pixels[other], pixels, share), share


def _paste(pixels: Tensor, other: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Paste a box of the other photograph. Returns the share of the area outside the box."""
    height, width = pixels.shape[2:]
    side = np.sqrt(1 - share) / 2
    x, y = rng.uniform(0, 1, 2)
    left, right = (round(width * min(1, max(0, x + sign * side))) for sign in (-1, 1))
    top, bottom = (round(height * min(1, max(0, y + sign * side))) for sign in (-1, 1))
    pixels[:, :, top:bottom, left:right] = pixels[other, :, top:bottom, left:right]
    return pixels, 1 - (right - left) * (bottom - top) / (width * height)
