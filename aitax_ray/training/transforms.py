"""Prepares a photograph for the network. Validation, test, index and service use this one definition.

It uses Pillow and numpy alone: the service needs no torch, and serves what was measured. Sizes are in px.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from PIL import Image

# Mean and standard deviation of ImageNet's pixels per channel, as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class EvalTransform(BaseModel):
    """Resize the shorter side to `resize_size`, crop the centre to `crop_size`, scale to [0, 1], normalize.

    It is stored as JSON beside the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_size: int
    resize_size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def pixels(self, image: "Image.Image") -> np.ndarray:
        """Resize and crop: uint8 of shape (crop_size, crop_size, 3)."""
        scaled = resize_shorter_side(image.convert("RGB"), self.resize_size, self.interpolation)
        left, top = (scaled.width - self.crop_size) // 2, (scaled.height - self.crop_size) // 2
        return np.asarray(scaled.crop((left, top, left + self.crop_size, top + self.crop_size)))

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Scale and normalize: uint8 (N, H, W, 3) to float32 (N, 3, H, W)."""
        scale = 1 / (255 * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray((pixels * scale - shift).transpose(0, 3, 1, 2), dtype=np.float32)


def resize_shorter_side(image: "Image.Image", size: int, interpolation: str = "bilinear") -> "Image.Image":
    """Resize the shorter side to `size` and keep the aspect; small photographs are enlarged."""
    from PIL import Image

    shorter = min(image.size)
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling[interpolation.upper()], reducing_gap=2.0)
