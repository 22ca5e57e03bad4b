"""Changes brightness, contrast and saturation in one pass over a photograph. The hue does not change."""

import numpy as np
from PIL import Image

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in the gray of ITU-R 601-2, as Pillow has them


def change_light(
    image: Image.Image, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0
) -> Image.Image:
    """Multiply the saturation, then the contrast around the mean gray, then the brightness; 1 changes nothing."""
    # A small copy has almost the same mean.
    gray = float(np.asarray(image.reduce(16)).reshape(-1, 3).mean(0) @ LUMA)
    factor, shift = brightness * contrast, brightness * (1 - contrast) * gray
    matrix: list[float] = []
    for row in range(3):
        own = [(saturation if row == column else 0.0) + (1 - saturation) * LUMA[column] for column in range(3)]
        matrix += [*(factor * value for value in own), shift]
    return image.convert("RGB", tuple(matrix))
