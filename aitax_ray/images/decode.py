"""Bring any photograph to one form: upright, RGB, of bounded size, a plain JPEG. Never raises, whatever the bytes.

What a file is, is seen from its bytes, never from what a server says of it.
"""

import contextlib
import functools
import io
import re
import warnings
from dataclasses import dataclass

from PIL import AvifImagePlugin, Image

from aitax_ray.images import colour, repair
from aitax_ray.images.content import photo_format, recognise
from aitax_ray.images.fingerprint import fingerprint

TRUNCATED = "truncated"
TOO_SMALL = "too_small"
ONE_PIXEL = "one_pixel"
DECOMPRESSION_BOMB = "decompression_bomb"
OUT_OF_MEMORY = "out_of_memory"

# Every reason with its meaning, beside those of content.py.
REASONS = {
    TRUNCATED: "cut short, or damaged: pixels are missing",
    TOO_SMALL: "shorter side below 16 px, or a strip",
    ONE_PIXEL: "a single pixel, which stands for a photograph that is not there",
    DECOMPRESSION_BOMB: "more pixels than the limit, going by its header",
    OUT_OF_MEMORY: "decoding it takes more memory than there is",
}

FORMATS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"})
MAX_PIXELS = 100_000_000  # Pillow itself refuses what has more than 179 million
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


@dataclass(frozen=True)
class Photo:
    """A photograph in its one form."""

    jpeg: bytes
    width: int  # px
    height: int
    phash: bytes  # see fingerprint
    contrast: float


@dataclass(frozen=True)
class Refusal:
    """Why bytes are no photograph: one of REASONS, or of those of content.py."""

    reason: str


def normalize(body: bytes | bytearray, image_size: int, max_pixels: int = MAX_PIXELS) -> Photo | Refusal:
    """Decode, turn upright, shrink and encode anew, without metadata.

    The shorter side becomes `image_size` px; photographs are never enlarged, keep their aspect, and very long ones are
    shrunk until the longer side is MAX_ELONGATION times that.
    """
    image = open_photo(body, max_pixels, image_size)
    if isinstance(image, Refusal):
        return image
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    return Photo(jpeg.getvalue(), image.width, image.height, *fingerprint(image))


def open_photo(
    body: bytes | bytearray, max_pixels: int = MAX_PIXELS, image_size: int | None = None
) -> Image.Image | Refusal:
    """Decode a photograph to an upright RGB image, shrunk to `image_size` where that is given (see `normalize`)."""
    name = photo_format(body)
    if name not in _formats():
        return Refusal(recognise(body))
    _silence_pillow()
    image = _try_open(body, name, max_pixels, image_size)
    if image != Refusal(TRUNCATED):
        return image
    # Every pixel may be there nevertheless.
    first: Image.Image | Refusal | None = None
    for variant in repair.variants(body, name):
        image = _try_open(variant, name, max_pixels, image_size)
        if isinstance(image, Refusal) or (isinstance(first, Image.Image) and image.tobytes() != first.tobytes()):
            return Refusal(TRUNCATED)
        first = image
    return first or Refusal(TRUNCATED)


def _try_open(body: bytes | bytearray, name: str, max_pixels: int, image_size: int | None) -> Image.Image | Refusal:
    try:
        return _open(io.BytesIO(body), name, max_pixels, image_size)
    except Image.DecompressionBombError:
        return Refusal(DECOMPRESSION_BOMB)
    except MemoryError:
        return Refusal(OUT_OF_MEMORY)
    except Exception:
        return Refusal(TRUNCATED)  # the parsers of eight formats fail in more ways than anybody has listed


def _open(file: io.BytesIO, name: str, max_pixels: int, image_size: int | None) -> Image.Image | Refusal:
    image: Image.Image = Image.open(file, formats=[name])  # reads no more than the header
    if image.width * image.height > max_pixels:
        return Refusal(DECOMPRESSION_BOMB)
    if image.size == (1, 1):
        return Refusal(ONE_PIXEL)
    target = _fit(image.size, image_size)
    if min(image.size) < MIN_SIDE or min(target) < MIN_SIDE:
        return Refusal(TOO_SMALL)
    # JPEG is decoded at an eighth, a quarter or half of its size, when that is still enough: much faster.
    image.draft(None, target)
    image.load()
    # Only now: Pillow turns a TIFF upright by itself while it loads, and then says no more of its orientation.
    if name in ("TIFF", "HEIF"):
        target = _fit(image.size, image_size)
    orientation, profile = _orientation(image), image.info.get("icc_profile")
    image = colour.plain(image).resize(target, Image.Resampling.HAMMING, reducing_gap=3.0)
    image = colour.to_srgb(image, profile)
    image = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
    image.info = {}  # Pillow would copy a comment and more into the file it writes
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
        return 1  # damaged metadata do not spoil a photograph


@functools.cache
def _formats() -> frozenset[str]:
    """The formats that can be decoded here. Loads Pillow's plugins, and the one for HEIC if it is installed."""
    Image.init()
    # A thread for each core and image, as is usual, would be too many where every core has a decoder of its own.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(decode_threads=1)
    return FORMATS & Image.OPEN.keys()


# Categories and modules of warnings that tell of a photograph and not of our code: odd metadata, many pixels.
_NOISE = [("ignore", None, category, re.compile(r"PIL\."), 0) for category in (UserWarning, RuntimeWarning)]


def _silence_pillow() -> None:
    # warnings.catch_warnings swaps the filters of the whole process and is not safe in threads, where decoding is
    # done; adding two filters once is.
    for noise in _NOISE:
        if noise not in warnings.filters:
            warnings.filterwarnings("ignore", category=noise[2], module=r"PIL\.")
