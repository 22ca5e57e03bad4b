"""images.repair: files without an end marker or with damaged metadata are decoded; files without pixels are not."""

import io
import random
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from aitax_ray.images.decode import Photo, Refusal, normalize, open_photo
from aitax_ray.images.repair import repair_variants
from tests.web import encoded, picture

SIZE = (200, 150)
TRUNCATED = Refusal("truncated")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)).resize(SIZE)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "other codes": {"optimize": True},
    "marks in each row": {"restart_marker_rows": 1},
    "marks everywhere": {"restart_marker_blocks": 1},
    "progressive with marks": {"progressive": True, "restart_marker_rows": 1},
}


def pixels(body: bytes | bytearray, image_size: int | None = None) -> bytes | Refusal:
    image = open_photo(body, image_size=image_size)
    return image if isinstance(image, Refusal) else image.tobytes()


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("image_size", [None, 64])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_marker_is_whole(options: dict[str, Any], mode: str, image_size: int | None) -> None:
    body = encoded(NOISE.convert(mode), **options)
    expected = pixels(body, image_size)
    assert isinstance(expected, bytes)
    assert pixels(body[:-1], image_size) == pixels(body[:-2], image_size) == expected
    assert pixels(bytearray(body[:-2]), image_size) == expected


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_of_which_pixels_are_missing_is_truncated(options: dict[str, Any], mode: str) -> None:
    body = encoded(NOISE.convert(mode), **options)
    begin = body.index(b"\xff\xda")
    cuts = [*range(3, 40), *random.Random(0).sample(range(40, len(body) - begin), 20)]
    # The marks at which decoders start anew are where a cut is easily overlooked.
    marks = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7\xda]", body[begin:])]
    cuts += [len(body) - begin - mark for mark in marks[1:8] + marks[-8:]]
    for cut in cuts:
        found, expected = pixels(body[:-cut]), pixels(body)
        assert found in (TRUNCATED, expected)  # the last bits of some files change no pixel
        assert cut < 5 or found == TRUNCATED


@pytest.mark.parametrize("colour", ["white", "black", "gray"])
def test_a_jpeg_of_one_colour_is_truncated_as_well(colour: str) -> None:
    body = encoded(Image.new("RGB", SIZE, colour))
    assert pixels(body[:-2]) == pixels(body)
    assert {pixels(body[:-cut]) for cut in range(20, len(body) // 4)} == {TRUNCATED}


def test_a_progressive_jpeg_without_its_last_scan_is_truncated() -> None:
    body = encoded(NOISE, progressive=True)
    last = body.rindex(b"\xff\xda")
    assert repair_variants(body[:-2], "JPEG")
    assert repair_variants(body[:last], "JPEG") == []
    assert pixels(body[:last]) == TRUNCATED


@pytest.mark.parametrize("body", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xda\0", b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10"])
def test_the_beginning_of_a_jpeg_cannot_be_repaired(body: bytes) -> None:
    assert repair_variants(body, "JPEG") == []


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


LARGE = zlib.compress(b"x" * 1_500_000)
DAMAGED = {
    "text with a wrong checksum": chunk(b"tEXt", b"Title\0a frog", 5),
    "compressed text with a wrong checksum": chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"a frog"), 5),
    "large compressed text": chunk(b"zTXt", b"Title\0\0" + LARGE),
    "large international text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
    "much text": chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"x" * 1_000_000)) * 70,
    "compressed text that is none": chunk(b"zTXt", b"Title\0\0no zlib"),
    "an unknown chunk with a wrong checksum": chunk(b"abCd", b"data", 5),
    "a size in print that is too short": chunk(b"pHYs", b"\0"),
    "a time with a wrong checksum": chunk(b"tIME", bytes(7), 5),
    "a profile with a wrong checksum": chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(PROFILE), 5),
    "a profile that is too large": chunk(b"iCCP", b"sRGB\0\0" + LARGE),
    "EXIF with a wrong checksum": chunk(b"eXIf", b"MM\0*", 5),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("after", [b"IHDR", b"IDAT"])
def test_a_png_with_damaged_metadata_is_decoded(damaged: bytes, after: bytes) -> None:
    body = encoded(picture("a", SIZE), "PNG")
    end = body.index(after) + 8 + int.from_bytes(body[body.index(after) - 4 : body.index(after)], "big")
    expected = pixels(body)
    assert isinstance(expected, bytes)
    assert pixels(body[:end] + damaged + body[end:]) == expected


def test_a_png_keeps_its_colours_and_its_orientation() -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"tEXt", b"Title\0a frog")
    image = picture("a", SIZE).quantize(16)
    body = encoded(image, "PNG", pnginfo=info, transparency=3, icc_profile=PROFILE, exif=rotated())
    damaged = body.replace(b"a frog", b"a toad")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(damaged))
    assert pixels(damaged) == pixels(body)
    result = normalize(damaged, 512)
    assert isinstance(result, Photo)
    assert (result.width, result.height) == SIZE[::-1]


def test_a_png_without_its_end_is_whole_until_pixels_are_missing() -> None:
    body = encoded(NOISE, "PNG")
    assert {pixels(body[:-cut]) for cut in range(1, 13)} == {pixels(body)}
    assert {pixels(body[:-cut]) for cut in range(40, len(body) - 60, 997)} == {TRUNCATED}


def test_a_png_whose_palette_is_damaged_is_truncated() -> None:
    body = bytearray(encoded(picture("a", SIZE).quantize(16), "PNG"))
    body[body.index(b"PLTE") + 5] ^= 0xFF
    assert pixels(bytes(body)) == TRUNCATED


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_a_webp_of_which_only_metadata_are_missing_is_whole(options: dict[str, Any]) -> None:
    body = encoded(NOISE, "WEBP", exif=rotated().tobytes(), icc_profile=PROFILE, **options)
    begin = body.index(b"EXIF", 12)
    plain = encoded(NOISE, "WEBP", icc_profile=PROFILE, **options)
    assert {pixels(body[:end]) for end in range(begin, len(body))} == {pixels(plain)}
    assert pixels(body[: begin - 20]) == TRUNCATED


def test_a_gif_without_its_end_is_whole() -> None:
    body = encoded(picture("a", SIZE), "GIF")
    assert pixels(body[:-1]) == pixels(body)
    assert pixels(body[:-30]) == TRUNCATED


def test_other_formats_cannot_be_repaired() -> None:
    assert repair_variants(encoded(NOISE, "BMP")[:-1], "BMP") == []


def test_a_png_whose_header_is_damaged_cannot_be_repaired() -> None:
    body = bytearray(encoded(NOISE, "PNG"))
    body[17] ^= 1  # the width, in IHDR
    assert repair_variants(body, "PNG") == []
