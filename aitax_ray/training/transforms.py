"""Prepares a photograph for the network: the same for validation, test, index and service. Sizes are in px.

It uses only Pillow and numpy, because the service runs without torch.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

# Mean and standard deviation of ImageNet's pixels per channel, as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class EvalTransform(BaseModel):
    """Resize to `resize_size`, crop the centre to `crop_size`, scale to [0, 1], normalize.

    It is stored as JSON beside the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_size: int
    resize_size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_mode: Literal["center", "squash", "border"] = "center"
    """`resize_size` is the shorter side, or both sides (squash), or the longer side (border), with `mean` around it."""

    def scaled_to(self, crop_size: int | None) -> "EvalTransform":
        """Give the same transform for another size of the crop; this one if the size is None."""
        if crop_size is None:
            return self
        resize = round(crop_size * self.resize_size / self.crop_size)
        return self.model_copy(update={"crop_size": crop_size, "resize_size": resize})

    def pixels(self, image: "Image.Image") -> np.ndarray:
        """Resize and crop: uint8 of shape (crop_size, crop_size, 3)."""
        scaled = self.resize(image)
        # torchvision, with which the weights were trained, rounds in this way.
        left, top = round((scaled.width - self.crop_size) / 2), round((scaled.height - self.crop_size) / 2)
        return np.asarray(scaled.crop((left, top, left + self.crop_size, top + self.crop_size)))

    def resize(self, image: "Image.Image") -> "Image.Image":
        """Resize to RGB. A photograph that was resized stays as it is."""
        image = image if image.mode == "RGB" else image.convert("RGB")
        if self.crop_mode == "squash":
            return _resize(image, (self.resize_size, self.resize_size), self.interpolation)
        if self.crop_mode == "border":
            return self._with_border(image)
        return resize_shorter_side(image, self.resize_size, self.interpolation)

    def _with_border(self, image: "Image.Image") -> "Image.Image":
        from PIL import Image

        side, longer = self.resize_size, max(image.size)
        inner = _resize(
            image,
            (max(1, round(image.width * side / longer)), max(1, round(image.height * side / longer))),
            self.interpolation,
        )
        framed = Image.new("RGB", (side, side), tuple(round(255 * mean) for mean in self.mean))
        framed.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
        return framed

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Scale and normalize: uint8 (N, H, W, 3) to float32 (N, 3, H, W)."""
        scale = 1 / (255 * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray((pixels * scale - shift).transpose(0, 3, 1, 2), dtype=np.float32)


def resizing(transform: str) -> "Callable[[Image.Image], Image.Image]":
    """Give the function that resizes as the transform in this JSON does; see images.decoders."""
    return EvalTransform.model_validate_json(transform).resize


def resize_shorter_side(image: "Image.Image", size: int, interpolation: str = "bilinear") -> "Image.Image":
    """Resize the shorter side to `size` and keep the aspect; small photographs are enlarged."""
    shorter = min(image.size)
    width, height = (max(size, int(side * size / shorter)) for side in image.size)  # as torchvision rounds
    return _resize(image, (width, height), interpolation)


def _resize(image: "Image.Image", size: tuple[int, int], interpolation: str = "bilinear") -> "Image.Image":
    from PIL import Image

    if size == image.size:
        return image
    return image.resize(size, Image.Resampling[interpolation.upper()], reducing_gap=2.0)
