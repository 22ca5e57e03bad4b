"""Recognise files whose decoding takes far more work than a photograph does, before they are decoded.

Limits on bytes and pixels do not prevent this. A JPEG of 1 MB may have 10,000 scans. A GIF, PNG, TIFF or JPEG may have
millions of parts, which Pillow reads one by one in Python; Pillow decodes BMPs with run lengths in Python.

A scan of a JPEG passes over all pixels of one or more components. It may be as short as 90 bytes for 60 megapixels,
which takes libjpeg 0.09 s. Photographs have few scans:

| scans | who writes them |
|---|---|
| 1 | cameras, telephones: sequential JPEG |
| 3, 4 | sequential, each component in a scan of its own |
| 3 to 5 | Photoshop, "progressive" |
| 6 | libjpeg, progressive, grey |
| 10 | libjpeg and all programs that use it, progressive, in colours |
| up to 12 | mozjpeg, which tries several orders of scans |
| 18 | libjpeg, progressive, CMYK |

Chrome and Android refuse 100 scans (Skia's `progress_monitor` in SkJpegCodec).

Pure; never raises, whatever the bytes are.
"""

import math
import re
from typing import Literal

MAX_SCANS = 100  # as Skia
MAX_PASSED_PIXELS = 2_000_000_000  # scans x pixels: some 3 s. 100 megapixels may have 20 scans
# Segments of a JPEG, chunks of a PNG, strips or tiles of a TIFF. libpng writes a chunk per 8 KB: 6,000 for 50 MB.
MAX_PARTS = 100_000
# Other formats take about this many times as long for a pixel as a scan of a JPEG, which takes some 6 ns.
NOT_JPEG = 4
# Bytes of a GIF between its first table of colours and its first picture: comment, XMP. Pillow may read each by itself.
MAX_GIF_HEAD = 1_000_000
RUN_LENGTHS = frozenset({1, 2})  # compression of a BMP: RLE8, RLE4
BIG_TIFF = 43
TEXTS = frozenset({1, 2, 7})  # types of TIFF's fields: bytes, text, anything; Pillow reads each in one piece

_EOI, _SOS = 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # without two kinds of tables and a reserved marker
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})  # frames in which a scan of all components is the only scan
# A marker begins with FF. In coded pixels FF is followed by 00. Markers without a length: TEM, RST0 to RST7, SOI.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")


def count_passes(body: bytes | bytearray, name: str) -> float:
    """Count how often the pixels of a file in Pillow's format `name` are decoded; infinite for what is to be refused.

    It is also to be refused if this number times that of its pixels is above MAX_PASSED_PIXELS.
    """
    match name:
        case "JPEG":
            return _count_scans(body)
        case "PNG":
            return math.inf if _has_too_many_chunks(body) else 1
        case "GIF":
            return math.inf if _has_long_head(body) else 1
        case "BMP":
            has_compression = int.from_bytes(body[14:18], "little") > 12
            return math.inf if has_compression and int.from_bytes(body[30:34], "little") in RUN_LENGTHS else 1
        case "TIFF":
            return math.inf if _has_long_lists(body) else 1
        case _:
            return 1


def estimate_work(name: str, num_pixels: int, passes: float) -> float:
    """Estimate the work of decoding a file: how many pixels of a JPEG with one scan take the same time."""
    return passes * num_pixels * (1 if name == "JPEG" else NOT_JPEG)


def _count_scans(body: bytes | bytearray) -> float:
    """Count the scans that libjpeg reads; infinite if they or the segments are too many."""
    count = num_components = position = 0
    is_sequential = False
    for _ in range(MAX_PARTS):
        found = _MARKER.search(body, position)
        if found is None or count > MAX_SCANS:
            break
        kind, position = body[found.end() - 1], found.end()
        if kind == _EOI:
            break
        if kind in _FRAMES:
            is_sequential, num_components = kind in _SEQUENTIAL, _byte(body, position + 7)
        if kind == _SOS:
            count += 1
            if is_sequential and _byte(body, position + 2) == num_components:
                break
        position += max(2, int.from_bytes(body[position : position + 2], "big"))  # the length includes its two bytes
    else:
        return math.inf
    return count if count <= MAX_SCANS else math.inf


def _byte(body: bytes | bytearray, position: int) -> int:
    return body[position] if position < len(body) else -1


def _has_too_many_chunks(body: bytes | bytearray) -> bool:
    position = 8
    for _ in range(MAX_PARTS):
        if position >= len(body):
            return False
        position += 12 + int.from_bytes(body[position : position + 4], "big")  # length, type, content, checksum
    return True


def _has_long_head(body: bytes | bytearray) -> bool:
    flags = _byte(body, 10)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # a table of colours
    while position < MAX_GIF_HEAD:
        mark = _byte(body, position)
        if mark in (ord(","), ord(";"), -1):  # a picture, or the end
            return False
        if mark != ord("!"):  # Pillow skips what it does not know
            position += 1
            continue
        position += 2  # the mark of an extension, and its kind
        while (length := _byte(body, position)) > 0:
            position += 1 + length
        position += 1
    return True


def _has_long_lists(body: bytes | bytearray) -> bool:
    """Tell whether a list of numbers in the first directory is too long: there is a strip of pixels for each."""
    order: Literal["little", "big"] = "little" if body[:1] == b"I" else "big"

    def number(begin: int, size: int) -> int:
        return int.from_bytes(body[begin : begin + size], order)

    is_big = number(2, 2) == BIG_TIFF
    size = 8 if is_big else 4  # of offsets and counts
    start = number(size, size)
    first, step = start + (8 if is_big else 2), 4 + 2 * size
    entries = range(first, min(first + step * number(start, first - start), len(body)), step)
    return any(number(at + 2, 2) not in TEXTS and number(at + 4, size) > MAX_PARTS for at in entries)
