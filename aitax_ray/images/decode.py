"""Convert any photograph to a plain RGB JPEG that is upright and of bounded size. Never raises, whatever the bytes are.

The format is recognised from the bytes, never from what a server says.
"""

import contextlib
import functools
import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import AvifImagePlugin, Image

from aitax_ray.images import colour, repair
from aitax_ray.images.content import photo_format, recognise
from aitax_ray.images.effort import MAX_PASSED_PIXELS, count_passes, estimate_work
from aitax_ray.images.fingerprint import fingerprint
from aitax_ray.images.memory import peak_bytes

TRUNCATED = "truncated"
TOO_SMALL = "too_small"
ONE_PIXEL = "one_pixel"
DECOMPRESSION_BOMB = "decompression_bomb"
TOO_COMPLEX = "too_complex"
OUT_OF_MEMORY = "out_of_memory"

# Every reason with its meaning, beside those of content.py.
REASONS = {
    TRUNCATED: "cut short, or damaged: pixels are missing",
    TOO_SMALL: "shorter side below 16 px, or a strip",
    ONE_PIXEL: "a single pixel in place of a photograph that no longer exists",
    DECOMPRESSION_BOMB: "more pixels than the limit, according to its header",
    TOO_COMPLEX: "takes far more work to decode than a photograph: very many scans or parts, a BMP with run lengths",
    OUT_OF_MEMORY: "decoding it takes more memory than is available",
}

FORMATS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"})
MAX_PIXELS = 100_000_000  # Pillow itself refuses more than 179 million
MIN_SIDE = 16  # px
MAX_ELONGATION = 4  # the longer side may be this many times `image_size`
QUALITY = 90
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Reserve = Callable[[int, float], object]


@dataclass(frozen=True)
class Photo:
    """A photograph as it is stored."""

    jpeg: bytes
    width: int  # px
    height: int
    phash: bytes  # see fingerprint
    contrast: float


@dataclass(frozen=True)
class Refusal:
    """The reason why bytes are not a usable photograph: a key of REASONS here or in content.py."""

    reason: str


def normalize(
    body: bytes | bytearray, image_size: int, max_pixels: int = MAX_PIXELS, reserve: Reserve = lambda *_: None
) -> Photo | Refusal:
    """Decode a photograph, turn it upright, shrink it and encode it again, without metadata.

    The shorter side becomes `image_size` px, but the longer side at most MAX_ELONGATION times that. The aspect ratio
    stays. Photographs are never enlarged. `reserve` is called before memory is taken, with its bytes at the peak and
    with the work, see `estimate_work`.
    """
    image = open_photo(body, max_pixels, image_size, reserve)
    if isinstance(image, Refusal):
        return image
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    return Photo(jpeg.getvalue(), image.width, image.height, *fingerprint(image))


def open_photo(
    body: bytes | bytearray,
    max_pixels: int = MAX_PIXELS,
    image_size: int | None = None,
    reserve: Reserve = lambda *_: None,
    least_size: int | None = None,
) -> Image.Image | Refusal:
    """Decode a photograph to an upright RGB image, shrunk as in `normalize` if `image_size` is given.

    With `least_size` a JPEG may become smaller than `image_size`: it is decoded at half, a quarter or an eighth of its
    size while its shorter side keeps at least so many px. That takes half of the time or less.
    """
    name = photo_format(body)
    if name not in _formats():
        return Refusal(recognise(body))
    _silence_pillow()
    image = _try_open(body, name, max_pixels, image_size, reserve, least_size)
    if image != Refusal(TRUNCATED):
        return image
    # Every pixel may be there although Pillow refuses the file: see repair.py.
    first: Image.Image | Refusal | None = None
    for variant in repair.repair_variants(body, name):
        image = _try_open(variant, name, max_pixels, image_size, reserve, least_size)
        if isinstance(image, Refusal) or (isinstance(first, Image.Image) and image.tobytes() != first.tobytes()):
            return Refusal(TRUNCATED)
        first = image
    return first or Refusal(TRUNCATED)


def _try_open(body: bytes | bytearray, name: str, *limits: Any) -> Image.Image | Refusal:
    try:
        return _open(body, name, *limits)
    except Image.DecompressionBombError:
        return Refusal(DECOMPRESSION_BOMB)
    except MemoryError:
        return Refusal(OUT_OF_MEMORY)
    except Exception:
        return Refusal(TRUNCATED)  # parsers of eight formats raise more kinds of errors than anybody has listed


def _open(
    body: bytes | bytearray,
    name: str,
    max_pixels: int,
    image_size: int | None,
    reserve: Reserve,
    least_size: int | None,
) -> Image.Image | Refusal:
    passes = count_passes(body, name)
    if passes == math.inf:
        return Refusal(TOO_COMPLEX)
    image: Image.Image = Image.open(io.BytesIO(body), formats=[name])  # reads only the header
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        return Refusal(DECOMPRESSION_BOMB)
    if passes * num_pixels > MAX_PASSED_PIXELS:
        return Refusal(TOO_COMPLEX)
    if image.size == (1, 1):
        return Refusal(ONE_PIXEL)
    target = _fit(image.size, image_size)
    if min(image.size) < MIN_SIDE or min(target) < MIN_SIDE:
        return Refusal(TOO_SMALL)
    # JPEGs are decoded at an eighth, a quarter or half of their size if that is enough, which is much faster.
    image.draft(None, _fit(image.size, least_size) if least_size else target)
    reserve(peak_bytes(image, num_pixels, passes), estimate_work(name, num_pixels, passes))
    image.load()
    # Pillow turns TIFF and HEIF images upright while it loads them, and drops their orientation.
    if name in ("TIFF", "HEIF") or least_size:
        target = _fit(image.size, image_size)
    orientation, profile = _orientation(image), image.info.get("icc_profile")
    image = colour.plain(image).resize(target, Image.Resampling.HAMMING, reducing_gap=3.0)
    image = colour.to_srgb(image, profile)
    image = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
    image.info = {}  # Pillow would copy comments and more into the file that it writes
    return image


def _fit(size: tuple[int, int], image_size: int | None) -> tuple[int, int]:
    if image_size is None:
        return size
    scale = min(1.0, image_size / min(size), MAX_ELONGATION * image_size / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1  # the metadata are damaged, not the photograph


@functools.cache
def _formats() -> frozenset[str]:
    """List the formats that can be decoded. Loads Pillow's plugins, and the one for HEIC if it is installed."""
    Image.init()
    # The default is a thread per core for each image. That is too many: every core has a decoder already.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(decode_threads=1)
    return FORMATS & Image.OPEN.keys()


# Filters for warnings about a photograph, not about our code: odd metadata, many pixels.
_NOISE = [("ignore", None, category, re.compile(r"PIL\."), 0) for category in (UserWarning, RuntimeWarning)]


def _silence_pillow() -> None:
    # Adding two filters once is safe in threads. warnings.catch_warnings is not: it replaces all filters.
    for noise in _NOISE:
        if noise not in warnings.filters:
            warnings.filterwarnings("ignore", category=noise[2], module=r"PIL\.")
