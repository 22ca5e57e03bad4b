"""Augmentation: a random crop of each photograph, mirrored and changed at random, for each epoch.

The random numbers depend only on (seed, epoch, image_id). So a photograph looks the same in the same epoch for any
number of workers. torchvision's transforms cannot do that: they draw from torch's global generator.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from aitax_ray.training.light import change_light
from aitax_ray.training.trivial import FILL, trivial_augment

Kind = Literal["trivial", "light", "none"]

ASPECT = (3 / 4, 4 / 3)
JITTER = 0.2  # largest relative change of brightness, contrast and saturation by "light"
# Of torchvision's RandomErasing: share of the area, and aspect.
ERASED_SHARE, ERASED_ASPECT = (0.02, 0.33), (0.3, 3.3)


@dataclass(frozen=True)
class Augmentation:
    """Crops at random, resizes to `crop_size` px, mirrors every second time on average, then changes as `kind` says."""

    crop_size: int
    kind: Kind = "light"
    min_scale: float = 0.35
    """Smallest share of the area that a crop keeps."""
    vertical_flip: bool = False
    """Whether half of the photographs are turned upside down."""
    random_erasing: float = 0.0
    """Share of the photographs in which a box is filled with the mean colour."""
    seed: int = 0

    def weak(self) -> "Augmentation":
        """Make a weaker augmentation for the last epochs: larger crops, and no other change than mirroring."""
        return replace(self, kind="none", min_scale=max(0.8, self.min_scale), random_erasing=0.0)

    def __call__(self, pixels: np.ndarray, image_id: str, epoch: int) -> np.ndarray:
        """Map uint8 pixels (H, W, 3) to uint8 pixels (crop_size, crop_size, 3)."""
        digest = hashlib.sha256(f"{self.seed}/{epoch}/{image_id}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        image = Image.fromarray(self._crop(pixels, rng))
        is_mirrored, is_turned = rng.random(2) < 0.5
        if is_mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if is_turned and self.vertical_flip:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self.kind == "trivial":
            image = trivial_augment(image, rng)
        elif self.kind == "light":
            image = change_light(image, *(1 + JITTER * rng.uniform(-1, 1, 3)))
        if rng.random() < self.random_erasing:
            left, top, right, bottom = map(round, random_box(rng, *image.size, *ERASED_SHARE, ERASED_ASPECT))
            image.paste(FILL, (left, top, right, bottom))
        return np.asarray(image)

    def _crop(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crop and resize. With uint8 pixels, torch is three times faster than Pillow."""
        import torch

        height, width = pixels.shape[:2]
        left, top, right, bottom = random_box(rng, width, height, self.min_scale)
        left, top = min(round(left), width - 1), min(round(top), height - 1)
        part = pixels[top : max(top + 1, round(bottom)), left : max(left + 1, round(right))]
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(part.copy()).permute(2, 0, 1)[None],
            (self.crop_size, self.crop_size),
            mode="bilinear",
            antialias=True,
        )
        return resized[0].permute(1, 2, 0).numpy()


def random_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    min_scale: float,
    max_scale: float = 1.0,
    aspects: tuple[float, float] = ASPECT,
) -> tuple[float, float, float, float]:
    """Draw a box (left, top, right, bottom) of at least `min_scale` of the area, with an aspect within `aspects`.

    A box that does not fit is made smaller. In very long photographs its area may then be less than `min_scale`.
    """
    area = width * height * rng.uniform(min_scale, max_scale)
    aspect = np.exp(rng.uniform(*np.log(aspects)))
    box_width, box_height = min(width, np.sqrt(area * aspect)), min(height, np.sqrt(area / aspect))
    left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height
