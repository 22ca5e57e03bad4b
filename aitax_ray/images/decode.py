"""Bring any photograph to one form: upright, RGB, of bounded size, a plain JPEG. Never raises, whatever the bytes.

What a file is, is seen from its bytes, never from what a server says of it.
"""

import io
import re
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

NOT_AN_IMAGE = "not_an_image"
TRUNCATED = "truncated"
TOO_SMALL = "too_small"
DECOMPRESSION_BOMB = "decompression_bomb"

# Every reason with its meaning.
REASONS = {
    NOT_AN_IMAGE: "not in a format of photographs: a web page, a drawing, a document",
    TRUNCATED: "cut short, or damaged",
    TOO_SMALL: "shorter side below 16 px, or a strip",
    DECOMPRESSION_BOMB: "more pixels than the limit, going by its header",
}

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")  # to Pillow, MPO is JPEG
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\x00", b"MM\x00*", b"BM", b"RIFF")
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


@dataclass(frozen=True)
class Refusal:
    """Why bytes are no photograph: one of REASONS."""

    reason: str


def normalize(body: bytes, image_size: int, max_pixels: int = MAX_PIXELS) -> Photo | Refusal:
    """Decode, turn upright, shrink and encode anew, without metadata.

    The shorter side becomes `image_size` px; photographs are never enlarged, keep their aspect, and very long ones are
    shrunk until the longer side is MAX_ELONGATION times that.
    """
    image = open_photo(body, max_pixels, image_size)
    if isinstance(image, Refusal):
        return image
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY)
    return Photo(jpeg.getvalue(), image.width, image.height)


def open_photo(body: bytes, max_pixels: int = MAX_PIXELS, image_size: int | None = None) -> Image.Image | Refusal:
    """Decode a photograph to an upright RGB image, shrunk to `image_size` where that is given (see `normalize`)."""
    _silence_pillow()
    try:
        image: Image.Image = Image.open(io.BytesIO(body), formats=FORMATS)
    except Image.DecompressionBombError:
        return Refusal(DECOMPRESSION_BOMB)
    except UnidentifiedImageError:
        return Refusal(TRUNCATED if body.startswith(SIGNATURES) else NOT_AN_IMAGE)
    except Exception:
        # The parsers of seven formats fail in more ways than anybody has listed.
        return Refusal(TRUNCATED)
    if image.width * image.height > max_pixels:
        return Refusal(DECOMPRESSION_BOMB)
    target = _fit(image.size, image_size)
    if min(image.size) < MIN_SIDE or min(target) < MIN_SIDE:
        return Refusal(TOO_SMALL)
    try:
        # JPEG is decoded at an eighth, a quarter or half of its size, when that is still enough: much faster.
        image.draft(None, target)
        image.load()
        # Only now: Pillow turns a TIFF upright by itself while it loads, and then says no more of its orientation.
        if image.format == "TIFF":
            target = _fit(image.size, image_size)
        orientation = _orientation(image)
        image = _rgb(image).resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
        image = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
    except Exception:
        return Refusal(TRUNCATED)
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


def _rgb(image: Image.Image) -> Image.Image:
    """Convert any mode: more than 8 bits are scaled down, what is transparent becomes white."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep grey to 0..255. Converting alone would clip: all that is not nearly black becomes white."""
    if image.mode.startswith("I;16"):
        full, image = 65535.0, image.convert("I")
    else:
        # 32 bits say little of the range in use: the smallest usual one that holds the brightest pixel.
        brightest = float(image.getextrema()[1])  # type: ignore[arg-type]
        full = next((top for top in (1.0, 255.0, 65535.0) if brightest <= top), brightest)
    return image.point(lambda value: value * (255.0 / full)).convert("L")


# Categories and modules of warnings that tell of a photograph and not of our code: odd metadata, many pixels.
_NOISE = [("ignore", None, category, re.compile(r"PIL\."), 0) for category in (UserWarning, RuntimeWarning)]


def _silence_pillow() -> None:
    # warnings.catch_warnings swaps the filters of the whole process and is not safe in threads, where decoding is
    # done; adding two filters once is.
    for noise in _NOISE:
        if noise not in warnings.filters:
            warnings.filterwarnings("ignore", category=noise[2], module=r"PIL\.")
