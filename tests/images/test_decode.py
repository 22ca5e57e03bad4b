import base64
import io
import random
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from aitax_ray.images import content, decode
from aitax_ray.images.decode import REASONS, Photo, Refusal, normalize, open_photo
from tests.web import HEIGHT, WIDTH, encoded, photo, picture

ALL_REASONS = REASONS | content.REASONS
# 64 x 48 px, red above and green below, in Adobe RGB, stored lying on its side. There is no encoder here.
HEIC = zlib.decompress(
    base64.b64decode(
        "eNpjYGCQSSupLMhIzaxgAILczDRDEDs3MzGNgYG5KTe1JJEBAhQzUnKKoGyGgszkEgY0YJKZk58MYrg4MDAxMIJYzMsgNBAsBooBAYsnXEQFiC0y"
        "M/PSwDyQrCiQkwpWBlSTUZZsyIAkyAhS4lqRCVbOV5BZkssAVcl0MLOgqABIL8gsSM4HipUD9TozsnAAmfMsQIrkPjD8+f/jBwMDP3MCUIe4AyMP"
        "4///IAXMYBXMQCW7mBwSgXJaToyMqBITWAQUNt2NmXLdnJGXjQUklgIiWBSSgMo5XBgPFksYcEwAuuRMcn5OUUFRPtCFjAfAfnIAhmheSVGQu5NC"
        "RGSUAnJoJSYXFzDgBd+uQYLqsi4D6YAjJbUYFBlPgDimvKQAGFuMQNcwiBQBHQJkh4DZIUHOQHYGKEDTIeKgVCCSDhHvAYknQcTngMSTIOIbQOJQ"
        "88HerGCgLkCEFSIMEGJzJBgY/JcCk9Kf5NKiMqgWRiZjZH0mvQwMC3SA8T0Vtxo1YPIS0Gdg2DcHXQ3Ir5nFBalQMQco1kjOSQTFmQEk2YHFgMno"
        "/wdo8oUlY4GCzIpMcPLn4AClQc7MovwSYEpikMwsyIVlJ0YGRrZGJmbWljYgRyqzKDUNKsGXnAIMWVAGAtlxPjclEZTT5mswrud78Fy6kU37+odn"
        "/P/vrP8kH529X/Hrj5Kdq///dUpUWvpTUW5HirBk0cSg/M//DpvVu7Q/lHNYfkpkXkl+p4AVy8fvP+T7Gq59M/q6JOhWu+o+n4qVxzTE10gcV+6c"
        "suPnhgD+h6vqOmPulwdMeGZsduLfn+S3vq4HNns+3vY9o/5jvPNTncXporMLLXZFyr1mdWedw7ib+ZFXRrlCzyLBi2HrG4BOZINkTl9fBi1QAmRg"
        "ZBQC5R+gN9ggPgMA7R/VnQ=="
    )
)


def decoded(result: Photo | Refusal) -> Image.Image:
    assert isinstance(result, Photo), result
    image = Image.open(io.BytesIO(result.jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (result.width, result.height))
    return image


def assert_looks_like(image: Image.Image, expected: Image.Image, tolerance: float = 6) -> None:
    assert image.size == expected.size
    difference = np.abs(np.asarray(image, float) - np.asarray(expected.convert("RGB"), float))
    assert difference.mean() < tolerance


@pytest.mark.parametrize(
    "kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "mpo", "avif", "cmyk", "gray16", "exif6"]
)
def test_every_kind_of_file_becomes_the_photograph_it_shows(kind: str) -> None:
    expected = picture("a")
    if kind == "png":  # its alpha grows from above
        alpha = Image.linear_gradient("L").resize(expected.size)
        expected = Image.composite(expected, Image.new("RGB", expected.size, "white"), alpha)
    if kind == "gray16":
        expected = expected.convert("L")
    assert_looks_like(decoded(normalize(photo(kind, "a"), 512)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "TIFF", "PNG", "WEBP", "AVIF"])
def test_every_orientation_is_turned_upright(orientation: int, form: str) -> None:
    upright = Image.new("RGB", (320, 160), "white")
    upright.paste("red", (0, 0, 160, 80))
    stored = upright
    for step in {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decoded(normalize(encoded(stored, form, exif=exif.tobytes() if form != "TIFF" else exif), 80))
    assert_looks_like(image, upright.resize((160, 80)))
    assert not image.getexif()


@pytest.mark.parametrize(
    ("size", "image_size", "stored"),
    [
        ((1600, 1200), 300, (400, 300)),
        ((1200, 1600), 300, (300, 400)),
        ((401, 301), 300, (400, 300)),
        ((200, 100), 300, (200, 100)),  # never enlarged
        ((300, 900), 300, (300, 900)),
        ((3000, 300), 300, (1200, 120)),  # very long: the longer side is bounded
        ((1602, 1203), 400, (533, 400)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_shorter_side_becomes_the_size_asked_for(
    size: tuple[int, int], image_size: int, stored: tuple[int, int], form: str
) -> None:
    image = decoded(normalize(encoded(picture("a", size), form), image_size))
    assert image.size == stored
    assert_looks_like(image, picture("a", size).resize(stored))


def test_rare_modes_are_converted_correctly() -> None:
    gray = Image.linear_gradient("L").resize((64, 64))
    deep = gray.convert("I").point(lambda v: v * 257)
    expected = gray.convert("RGB")
    for form, image in {
        "PNG": deep.convert("I;16"),
        "TIFF": deep,
        "BMP": gray,
    }.items():
        assert_looks_like(decoded(normalize(encoded(image, form), 512)), expected, 2)
    share = Image.fromarray(np.asarray(gray, np.float32) / 255)
    assert_looks_like(decoded(normalize(encoded(share, "TIFF"), 512)), expected, 2)
    assert_looks_like(decoded(normalize(encoded(gray.convert("1"), "PNG"), 512)), gray.convert("1"), 10)
    palette = picture("a").quantize(16)
    assert_looks_like(decoded(normalize(encoded(palette, "PNG"), 512)), palette)
    clear = Image.new("LA", (32, 32), (0, 0))
    assert_looks_like(decoded(normalize(encoded(clear, "PNG"), 512)), Image.new("RGB", (32, 32), "white"))
    keyed = Image.new("P", (32, 32), 1)
    keyed.putpalette([0, 0, 0, 255, 0, 0])
    found = decoded(normalize(encoded(keyed, "PNG", transparency=b"\x00\x00"), 512))
    assert_looks_like(found, Image.new("RGB", (32, 32), "white"))


def test_nothing_but_pixels_is_kept() -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    body = encoded(picture("a"), comment=b"secret", exif=exif.tobytes(), dpi=(300, 300), icc_profile=b"x" * 200)
    image = decoded(normalize(body, 512))
    assert not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert image.info["jfif_density"] == (1, 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_an_image"),
        (b"<!doctype html><title>Please accept our terms</title>", "html"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400"/>', "svg"),
        (b"%PDF-1.7", "pdf"),
        (b'{"@context": "http://iiif.io/api/presentation/3/context.json"}', "iiif_manifest"),
        (b"\xff" * 5000, "not_an_image"),
        (photo("jpeg")[:100], "truncated"),
        *(
            (photo(kind)[: len(photo(kind)) // 2], "truncated")
            for kind in ("jpeg", "png", "webp", "gif", "tiff", "bmp", "avif")
        ),
        *((HEIC[:length], "truncated") for length in (20, 200, 900, len(HEIC) - 1)),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "not_an_image"),
        *((encoded(Image.new("RGB", (1, 1)), form), "one_pixel") for form in ("JPEG", "PNG", "WEBP", "BMP")),
        (encoded(Image.new("P", (1, 1)), "GIF", transparency=0), "one_pixel"),
        (encoded(Image.new("RGB", (2, 2)), "PNG"), "too_small"),
        (encoded(Image.new("RGB", (1000, 15)), "PNG"), "too_small"),
        (encoded(Image.new("RGB", (16, 4000)), "PNG"), "too_small"),
        (encoded(Image.new("1", (30000, 30000)), "PNG"), "decompression_bomb"),
        (encoded(Image.new("1", (11000, 10000)), "PNG"), "decompression_bomb"),
    ],
)
def test_a_file_that_is_not_a_photograph_has_a_reason(body: bytes, reason: str) -> None:
    assert normalize(body, 64) == normalize(bytearray(body), 64) == Refusal(reason)
    assert reason in ALL_REASONS


def test_a_bomb_is_known_by_its_header_and_not_decoded() -> None:
    header = struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
    body = bytearray(encoded(picture(), "PNG"))
    body[16:29] = header
    body[29:33] = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    assert normalize(bytes(body), 64) == Refusal("decompression_bomb")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "mpo", "avif"])
def test_the_limit_on_pixels_can_be_chosen(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_photo(bytearray(photo(kind)), max_pixels=WIDTH * HEIGHT)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    assert open_photo(photo(kind), max_pixels=WIDTH * HEIGHT - 1) == Refusal("decompression_bomb")


def test_heic_is_decoded_upright_and_in_its_colours() -> None:
    image = open_photo(HEIC)
    assert isinstance(image, Image.Image)
    expected = Image.new("RGB", (64, 48), (0, 151, 74))
    expected.paste((208, 57, 46), (0, 0, 64, 16))
    assert_looks_like(image, expected, 3)
    assert_looks_like(decoded(normalize(HEIC, 24)), expected.resize((32, 24)))
    assert open_photo(HEIC, max_pixels=64 * 48 - 1) == Refusal("decompression_bomb")


def test_heic_is_no_image_where_nothing_decodes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(decode, "_formats", decode._formats.__wrapped__)
    assert normalize(HEIC, 64) == Refusal("not_an_image")
    assert isinstance(normalize(photo("jpeg"), 64), Photo)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_of_several_pictures_is_taken(form: str) -> None:
    others = [picture(name) for name in ("b", "c")]
    body = encoded(picture("a"), form, save_all=True, append_images=others)
    assert_looks_like(decoded(normalize(body, 512)), picture("a"))


def test_a_photograph_is_decoded_upright_in_its_full_size() -> None:
    image = open_photo(photo("exif6", "a"))
    assert isinstance(image, Image.Image)
    assert_looks_like(image, picture("a"))


def test_no_bytes_whatever_raise_or_warn_or_change_pillow() -> None:
    rng = random.Random(3)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera" * 20
    samples = [
        photo(kind) for kind in ("jpeg", "png", "webp", "gif", "tiff", "bmp", "mpo", "avif", "cmyk", "gray16", "exif6")
    ]
    samples += [HEIC]
    samples.append(encoded(picture(), exif=exif.tobytes()))
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    reasons = set()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(150):
            for sample in samples:
                body = bytearray(sample)
                for _ in range(rng.choice([1, 3, 20])):
                    # Most of what can be wrong is in the first bytes.
                    body[rng.randrange(min(len(body), rng.choice([64, 1000, 10**6])))] = rng.randrange(256)
                result = normalize(bytes(body[: rng.choice([len(body), len(body), rng.randrange(len(body))])]), 64)
                reasons.add(result.reason if isinstance(result, Refusal) else "")
    assert reasons <= {"", *ALL_REASONS}
    assert {"", "truncated", "not_an_image"} <= reasons
    assert not seen
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize(
    ("least_size", "expected"), [(None, 300), (301, 600), (300, 300), (76, 150), (75, 75), (9, 75)]
)
def test_a_jpeg_is_decoded_at_a_fraction_of_its_size_that_has_the_least_size(
    least_size: int | None, expected: int
) -> None:
    body = encoded(Image.new("RGB", (800, 600), (90, 120, 30)), "JPEG")
    opened = open_photo(body, image_size=300 if least_size is None else 600, least_size=least_size)
    assert isinstance(opened, Image.Image)
    assert min(opened.size) == expected
    png = open_photo(encoded(Image.new("RGB", (800, 600)), "PNG"), image_size=500, least_size=least_size)
    assert isinstance(png, Image.Image)
    assert min(png.size) == 500
