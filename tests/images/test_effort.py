"""images.effort: photographs pass; files that are made to be slow are refused at once."""

import functools
import io
import math
import re
import struct
import zlib

import pytest
from PIL import Image

from aitax_ray.images import effort
from aitax_ray.images.decode import Photo, Refusal, normalize, open_photo
from aitax_ray.images.effort import MAX_PARTS, MAX_PASSED_PIXELS, MAX_SCANS, count_passes
from tests.web import encoded, photo, picture

SIZE = (240, 180)


@functools.cache
def progressive(mode: str = "RGB") -> bytes:
    """A progressive JPEG as libjpeg writes it."""
    return encoded(picture("a", SIZE).convert(mode), progressive=True)


def with_scans(number: int) -> bytes:
    """A progressive JPEG with its last scan repeated until it has so many."""
    body = progressive()
    starts = [match.start() for match in re.finditer(rb"\xff\xda", body)]
    last = body[starts[-1] : -2]
    return body[:-2] + last * (number - len(starts)) + body[-2:]


def png_with_chunks(number: int) -> bytes:
    body = encoded(picture("a", SIZE), "PNG")
    chunk = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    return body[:33] + number * chunk + body[33:]  # behind the header


def gif_with(head: bytes) -> bytes:
    body = encoded(picture("a", SIZE), "GIF")
    start = 13 + (3 << (body[10] & 7) + 1)
    return body[:start] + head + body[start:]


def run_length_bmp(width: int, height: int, bits: int = 8) -> bytes:
    """A BMP of run lengths: a few bytes for each line of one colour."""
    line = (b"\xff\x01" * (width // 255)) + bytes([width % 255, 1]) + b"\0\0"
    pixels, palette = line * height + b"\0\1", bytes(4 << bits)
    compression = {8: 1, 4: 2}[bits]
    offset = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 1, 1, 1 << bits, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def test_progressive_photographs_have_as_many_scans_as_the_table_says() -> None:
    scans = {mode: count_passes(progressive(mode), "JPEG") for mode in ("L", "RGB", "CMYK")}
    assert scans == {"L": 6, "RGB": 10, "CMYK": 18}
    # Nothing that is usual comes near the limits, at the largest size that the download accepts.
    assert max(scans.values()) * 100_000_000 < MAX_PASSED_PIXELS
    for mode in scans:
        assert isinstance(normalize(progressive(mode), 64), Photo)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "mpo", "avif", "cmyk", "exif6"])
def test_other_photographs_are_decoded_in_one_pass(kind: str) -> None:
    name = {"cmyk": "JPEG", "exif6": "JPEG", "mpo": "JPEG"}.get(kind, kind.upper())
    assert count_passes(photo(kind), name) == 1


def test_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_passes(with_scans(MAX_SCANS), "JPEG") == MAX_SCANS
    assert isinstance(normalize(with_scans(MAX_SCANS), 64), Photo)
    too_many = with_scans(MAX_SCANS + 1)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert normalize(too_many, 64) == normalize(bytearray(too_many), 64) == Refusal("too_complex")


def test_fewer_scans_are_allowed_for_more_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = SIZE[0] * SIZE[1]
    monkeypatch.setattr("aitax_ray.images.decode.MAX_PASSED_PIXELS", 12 * pixels)
    assert isinstance(open_photo(with_scans(12)), Image.Image)
    assert open_photo(with_scans(13)) == Refusal("too_complex")


def test_scans_in_metadata_and_in_pixels_do_not_count() -> None:
    body = progressive()
    preview = b"\xff\xe1" + struct.pack(">H", 2 + 8 * 200) + b"\xff\xda\0\x08\x01\x01\0\0" * 200
    assert count_passes(body[:2] + preview + body[2:], "JPEG") == 10
    assert count_passes(body + with_scans(500), "JPEG") == 10  # behind the end: libjpeg stops there
    for restarts in (1, 3):  # markers in the pixels, and between
        restarted = encoded(picture("a", SIZE), progressive=True, restart_marker_blocks=restarts)
        assert count_passes(restarted, "JPEG") == 10


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xda",
        b"\xff\xd8\xff\xc0",
        b"\xff" * 999,
        b"\xff\xd8" + b"\xff\xda" * 50,
        *(progressive()[:cut] for cut in range(0, 900, 7)),
    ],
)
def test_damaged_bytes_raise_nothing(body: bytes) -> None:
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        assert count_passes(body, name) >= 0


def test_a_million_parts_are_refused_and_thousands_pass() -> None:
    segment = b"\xff\xe5\0\x02"
    body = photo("jpeg")
    assert isinstance(normalize(body[:2] + 5_000 * segment + body[2:], 64), Photo)
    assert normalize(body[:2] + MAX_PARTS * segment + body[2:], 64) == Refusal("too_complex")
    assert isinstance(normalize(png_with_chunks(10_000), 64), Photo)
    assert normalize(png_with_chunks(MAX_PARTS), 64) == Refusal("too_complex")


@pytest.mark.parametrize("junk", [b"!\xfe\x01x\0", b"\0"])
def test_gif_with_a_long_head_is_refused(junk: bytes) -> None:
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 100 + b"\0"
    assert isinstance(normalize(gif_with(comment), 64), Photo)
    assert normalize(gif_with(junk * (effort.MAX_GIF_HEAD // len(junk))), 64) == Refusal("too_complex")


def tiff_with_strips(number: int, order: str, *, big: bool) -> bytes:
    """A TIFF of 64 x 64 px that names its only strip as often as that."""
    pixels = bytes(64 * 64 * 3)
    size, start = ("Q", 16) if big else ("I", 8)
    fields = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 2), (273, None), (277, 3), (278, 64), (279, None)]
    first = start + len(pixels)
    ends = first + (8 if big else 2) + (20 if big else 12) * len(fields) + (8 if big else 4)
    body = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    body += struct.pack(f"{order}HHQ", 8, 0, first) if big else struct.pack(f"{order}I", first)
    body += pixels + struct.pack(f"{order}{'Q' if big else 'H'}", len(fields))
    for tag, value in fields:
        kind, count = 16 if big else 4, 1 if value is not None else number
        if value is None:
            value = ends if tag == 273 else ends + number * (8 if big else 4)
        body += struct.pack(f"{order}HH{size}{size}", tag, kind, count, value)
    return (
        body
        + struct.pack(f"{order}{size}", 0)
        + struct.pack(f"{order}{2 * number}{size}", *[start] * number, *[len(pixels)] * number)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_of_very_many_strips_is_refused(order: str, big: bool) -> None:
    assert count_passes(tiff_with_strips(MAX_PARTS, order, big=big), "TIFF") == 1
    if not (big and order == ">"):  # Pillow opens no BigTIFF of this order of bytes
        assert isinstance(normalize(tiff_with_strips(5000, order, big=big), 64), Photo)
    assert normalize(tiff_with_strips(MAX_PARTS + 1, order, big=big), 64) == Refusal("too_complex")


@pytest.mark.parametrize("bits", [4, 8])
def test_bmp_of_run_lengths_is_refused(bits: int) -> None:
    body = run_length_bmp(300, 200, bits)
    assert count_passes(body, "BMP") == math.inf
    assert normalize(body, 64) == Refusal("too_complex")
    with Image.open(io.BytesIO(body)) as image:  # Pillow itself takes it
        image.load()
