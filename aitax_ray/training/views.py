"""Views of a photograph for a frozen backbone. View 0 is what the service sees; the others are random crops.

Half of the crops are mirrored. The random numbers depend only on (seed, view, image_id), so a view is the same in every
run.
"""

import hashlib
import io

import numpy as np
import pyarrow as pa
from PIL import Image

from aitax_ray.training.augment import random_box
from aitax_ray.training.transforms import EvalTransform

MIN_SCALE = 0.5  # smallest share of the area: with few views, each one must show the features of the species


def decode_views(batch: pa.Table, transform: EvalTransform, views: int, seed: int) -> pa.Table:
    """Decode photographs: rows of image_id and jpeg become rows of image_id, jpeg_sha256, pixels.

    The pixels are the bytes of uint8 (views, H, W, 3).
    """
    pixels, hashes = [], []
    for image_id, jpeg in zip(batch["image_id"].to_pylist(), batch["jpeg"].to_pylist(), strict=True):
        hashes.append(hashlib.sha256(jpeg).hexdigest())
        with Image.open(io.BytesIO(jpeg)) as image:
            photograph = image.convert("RGB")
        shown = [transform.pixels(photograph)]
        shown += [random_view(photograph, transform, f"{seed}/{view}/{image_id}") for view in range(1, views)]
        pixels.append(b"".join(view.tobytes() for view in shown))
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
