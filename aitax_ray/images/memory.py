"""How much memory the decoding of a photograph takes, and how a process gives it back afterwards."""

import ctypes

from PIL import Image

# Bytes per pixel at the peak: the decoder's own, and all copies that colour.py makes. Measured with Pillow 13; the test
# measures again.
_BY_FORMAT = {"WEBP": 18, "AVIF": 18, "HEIF": 18}
_BY_MODE = {"1": 3, "L": 3, "RGB": 6, "YCbCr": 6, "CMYK": 6, "LAB": 6, "I;16": 5, "I": 7, "F": 7}
_OTHER = 12  # transparency, palettes
_COEFFICIENT = 2  # bytes: a JPEG of several scans keeps one per pixel and component until its end
_CONSTANT = 4 << 20

# Of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# With 1 MiB, decoding of 1 megapixel is 30 % slower: the system clears the pages of each image. With 8 MiB it is not.
MMAP_THRESHOLD = 8 << 20
ARENAS = 2


def peak_bytes(image: Image.Image, num_pixels: int, passes: float) -> int:
    """Estimate the memory to decode an opened image, after `draft`; `num_pixels` are those before it."""
    form = getattr(image, "format", None)
    has_copies = image.mode not in _BY_MODE or "transparency" in image.info
    per_pixel = _BY_FORMAT.get(form or "", _OTHER if has_copies else _BY_MODE.get(image.mode, _OTHER))
    coefficients = _COEFFICIENT * len(image.getbands()) * num_pixels if form == "JPEG" and passes > 1 else 0
    return _CONSTANT + per_pixel * image.width * image.height + coefficients


def give_back_memory() -> None:
    """Let this process give large blocks back to the system as soon as they are free. Does nothing without glibc.

    glibc keeps blocks of up to 32 MB for later, in a heap per thread. A service that gets large photographs in many
    threads would keep gigabytes. From now on each block above MMAP_THRESHOLD is mapped by itself.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD)
    mallopt(_M_ARENA_MAX, ARENAS)
