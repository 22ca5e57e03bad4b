"""Augmentation: a random crop of each photograph, with changed light and colour, for each epoch.

The random numbers follow from (seed, epoch, image_id) alone. So a photograph looks the same in the same epoch whatever
the number of workers. torchvision's transforms draw from torch's global generator and cannot do that.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

ASPECT = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Augmentation:
    """Crops at random, resizes to `crop_size` px, mirrors half of the time, changes light and colour a little."""

    crop_size: int
    min_scale: float = 0.35
    """Smallest share of the area that a crop keeps. ImageNet's 0.08 would often cut off the organ that matters."""
    jitter: float = 0.2
    """Largest relative change of brightness, contrast and saturation. The hue stays: it tells species apart."""
    seed: int = 0

    def __call__(self, pixels: np.ndarray, image_id: str, epoch: int) -> np.ndarray:
        """Map uint8 pixels (H, W, 3) to uint8 pixels (crop_size, crop_size, 3)."""
        digest = hashlib.sha256(f"{self.seed}/{epoch}/{image_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        box = random_box(rng, pixels.shape[1], pixels.shape[0], self.min_scale)
        size = (self.crop_size, self.crop_size)
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box=box)
        result = np.asarray(image, np.float32)
        if rng.random() < 0.5:
            result = result[:, ::-1]
        brightness, contrast, saturation = 1 + self.jitter * rng.uniform(-1, 1, 3)
        gray = result.mean(axis=2, keepdims=True)
        result = gray + saturation * (result - gray)
        result = brightness * (gray.mean() + contrast * (result - gray.mean()))
        clipped: np.ndarray = np.clip(result, 0, 255).astype(np.uint8)
        return clipped


def random_box(
    rng: np.random.Generator, width: int, height: int, min_scale: float
) -> tuple[float, float, float, float]:
    """Draw a box (left, top, right, bottom) of at least `min_scale` of the area, its aspect within ASPECT.

    A box that does not fit is made smaller. On very long photographs the area may then fall below `min_scale`.
    """
    area = width * height * rng.uniform(min_scale, 1)
    aspect = np.exp(rng.uniform(*np.log(ASPECT)))
    box_width, box_height = min(width, np.sqrt(area * aspect)), min(height, np.sqrt(area / aspect))
    left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height
