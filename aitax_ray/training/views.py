"""Views of a photograph. View 0 is what the service sees.

The head of a frozen backbone learns from random crops as well. The index averages the embeddings of view 0, of its
mirror image and of random crops. Half of the crops are mirrored. The random numbers depend only on (seed, view,
image_id), so a view is the same in every run.
"""

import hashlib
import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from PIL import Image

from aitax_ray.training.augment import random_box
from aitax_ray.training.transforms import EvalTransform

MIN_SCALE = 0.5  # smallest share of the area: with few views, each one must show the features of the species


def decode_views(batch: pa.Table, transform: EvalTransform, views: int, seed: int) -> pa.Table:
    """Decode photographs for the head to learn from: view 0 and random crops. See `_decode`."""

    def show(photograph: Image.Image, image_id: str) -> list[np.ndarray]:
        crops = (random_view(photograph, transform, f"{seed}/{view}/{image_id}") for view in range(1, views))
        return [transform.pixels(photograph), *crops]

    return _decode(batch, show)


def decode_averaged_views(batch: pa.Table, transform: EvalTransform, views: int) -> pa.Table:
    """Decode photographs for the index: view 0, its mirror image, and random crops. See `_decode`."""

    def show(photograph: Image.Image, image_id: str) -> list[np.ndarray]:
        centre = transform.pixels(photograph)
        crops = (random_view(photograph, transform, f"index/{view}/{image_id}") for view in range(2, views))
        return [centre, centre[:, ::-1], *crops][:views]

    return _decode(batch, show)


def _decode(batch: pa.Table, show: Callable[[Image.Image, str], list[np.ndarray]]) -> pa.Table:
    """Decode photographs: rows of image_id and jpeg become rows of image_id, jpeg_sha256, pixels.

    The pixels are the bytes of uint8 (views, H, W, 3): what `show` makes of the photograph and its image_id.
    """
    pixels, hashes = [], []
    for image_id, jpeg in zip(batch["image_id"].to_pylist(), batch["jpeg"].to_pylist(), strict=True):
        hashes.append(hashlib.sha256(jpeg).hexdigest())
        with Image.open(io.BytesIO(jpeg)) as image:
            photograph = image.convert("RGB")
        pixels.append(b"".join(view.tobytes() for view in show(photograph, image_id)))
    columns = {"image_id": batch["image_id"], "jpeg_sha256": pa.array(hashes, pa.string())}
    return pa.table({**columns, "pixels": pa.array(pixels, pa.large_binary())})


def random_view(photograph: Image.Image, transform: EvalTransform, key: str) -> np.ndarray:
    """Crop at random, resize, and mirror half of the time: uint8 (crop_size, crop_size, 3)."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))
    box = random_box(rng, photograph.width, photograph.height, MIN_SCALE)
    size = (transform.crop_size, transform.crop_size)
    resample = Image.Resampling[transform.interpolation.upper()]
    pixels = np.asarray(photograph.resize(size, resample, box=box, reducing_gap=2.0))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels
