import io
import itertools
import random
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms

from aitax_ray.images.decode import open_photo
from tests.web import encoded, picture

Colour = tuple[int, ...]
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
COLOURS = [(200, 40, 30), (60, 180, 70), (40, 60, 190), (128, 128, 128), (240, 230, 90), (0, 255, 0), (255, 0, 0)]


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """An ICC profile of version 2, https://www.color.org/icc32.pdf."""
    white = b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2x" + bytes(79), b"wtpt": white, **tags}
    table, data, begin = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, begin + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s", begin + len(data), b"", 0x02400000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def curve(gamma: float | Sequence[float]) -> bytes:
    if isinstance(gamma, float):
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return b"para\0\0\0\0\0\3\0\0" + fixed(*gamma)


def rgb_profile(primaries: Sequence[Sequence[float]], gamma: float | Sequence[float]) -> bytes:
    tags = {}
    for name, primary in zip(b"rgb", primaries, strict=True):
        tags[bytes([name]) + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*primary)
        tags[bytes([name]) + b"TRC"] = curve(gamma)
    return profile(b"RGB ", tags)


def gray_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Inks that are duller than a screen's colours, by their Lab values."""
    corners = b""
    for c, m, y, k in itertools.product((0, 1), repeat=4):
        light = max(0.0, 95 - 35 * c - 40 * m - 8 * y) * (1 - 0.85 * k)
        a, b = (-30 * c + 65 * m - 5 * y) * (1 - 0.9 * k), (-45 * c - 5 * m + 85 * y) * (1 - 0.9 * k)
        corners += bytes([round(light * 2.55), round(a) + 128, round(b) + 128])
    ramp = bytes(range(256))
    identity = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * ramp + corners + 3 * ramp
    return profile(b"CMYK", {b"A2B0": table}, connection=b"Lab ", kind=b"prtr")


def patch(colour: Colour, mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new(mode, size, colour if len(colour) > 1 else colour[0])


def opened(body: bytes, image_size: int | None = None) -> Image.Image:
    image = open_photo(body, image_size=image_size)
    assert isinstance(image, Image.Image), image
    assert image.mode == "RGB"
    return image


def middle(image: Image.Image) -> Colour:
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


def by_cms(image: Image.Image, icc: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    result = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert result is not None
    return result


def far(one: Image.Image | Colour, other: Image.Image | Colour) -> float:
    """The largest difference, of 255."""
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).max())


@pytest.mark.parametrize("primaries", [ADOBE_RGB, DISPLAY_P3], ids=["Adobe RGB", "Display P3"])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_colours_of_a_wider_space_come_out_as_they_were_meant(
    primaries: Sequence[Sequence[float]], form: str, options: dict[str, object]
) -> None:
    icc = rgb_profile(primaries, 2.19921875 if primaries is ADOBE_RGB else SRGB_CURVE)
    changed = 0.0
    for colour in COLOURS:
        body = encoded(patch(colour, size=(320, 240)), form, icc_profile=icc, **options)
        expected = middle(by_cms(Image.open(io.BytesIO(body)), icc))
        found = opened(body, 48)
        assert far(middle(found), expected) <= 2
        assert found.size == (64, 48)
        assert not found.info
        changed = max(changed, far(expected, colour))
    assert changed > 20


def test_adobe_rgb_comes_out_by_its_formula() -> None:
    to_srgb = np.linalg.inv(np.array(SRGB).T) @ np.array(ADOBE_RGB).T
    for colour in ((120, 160, 100), (90, 110, 150), (200, 180, 160)):
        linear = to_srgb @ (np.array(colour) / 255) ** 2.19921875
        expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
        body = encoded(patch(colour), "PNG", icc_profile=rgb_profile(ADOBE_RGB, 2.19921875))
        assert far(middle(opened(body)), tuple(expected)) <= 1.5


def test_a_photograph_in_another_space_is_as_if_converted_before_it_was_shrunk() -> None:
    icc = rgb_profile(ADOBE_RGB, 2.19921875)
    image = picture("a", (640, 480))
    expected = by_cms(image, icc).resize((160, 120), Image.Resampling.HAMMING, reducing_gap=3.0)
    found = opened(encoded(image, "PNG", icc_profile=icc), 120)
    assert np.abs(np.asarray(found, float) - np.asarray(expected, float)).mean() < 1


@pytest.mark.parametrize(
    "icc",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), rgb_profile(SRGB, SRGB_CURVE)],
    ids=["of Little CMS", "written by hand"],
)
def test_a_profile_that_is_srgb_changes_no_pixel(icc: bytes) -> None:
    image = picture("a")
    assert opened(encoded(image, "PNG", icc_profile=icc)).tobytes() == image.tobytes()


def test_grey_pixels_go_by_a_profile_of_grey_or_of_colours() -> None:
    for icc in (gray_profile(1.0), rgb_profile(SRGB, 1.0)):
        found = middle(opened(encoded(patch((128,), "L"), "PNG", icc_profile=icc)))
        assert far(found, (188, 188, 188)) <= 2  # light is half
    found = middle(opened(encoded(patch((128, 255), "LA"), "PNG", icc_profile=gray_profile(1.0))))
    assert far(found, (188, 188, 188)) <= 2


def test_a_profile_goes_for_colours_behind_a_palette_and_beside_alpha() -> None:
    icc, colour = rgb_profile(ADOBE_RGB, 2.19921875), (60, 180, 70)
    expected = middle(by_cms(patch(colour), icc))
    assert far(middle(opened(encoded(patch(colour).quantize(4), "PNG", icc_profile=icc))), expected) <= 2
    assert far(middle(opened(encoded(patch((*colour, 255), "RGBA"), "PNG", icc_profile=icc))), expected) <= 2
    half = tuple((v + 255) / 2 for v in expected)
    assert far(middle(opened(encoded(patch((*colour, 128), "RGBA"), "PNG", icc_profile=icc))), half) <= 3


def test_a_profile_that_does_not_fit_or_is_damaged_is_ignored() -> None:
    good = rgb_profile(ADOBE_RGB, 2.19921875)
    image = picture("a")
    for icc in (
        b"x",
        b"x" * 200,
        good[:100],
        good[:150],
        bytes(1000),
        gray_profile(1.0),
        cmyk_profile(),
        bytes(5 << 20),
    ):
        assert opened(encoded(image, "TIFF", icc_profile=icc)).tobytes() == image.tobytes()
    cmyk = picture("a").convert("CMYK")
    assert opened(encoded(cmyk, "TIFF", icc_profile=good)).tobytes() == cmyk.convert("RGB").tobytes()


def test_no_profile_whatever_raises() -> None:
    rng = random.Random(5)
    good = [rgb_profile(DISPLAY_P3, SRGB_CURVE), gray_profile(2.2), cmyk_profile()]
    images = [picture("a", (20, 20)).convert(mode) for mode in ("RGB", "L", "CMYK")]
    for _ in range(60):
        for icc, image in zip(good, images, strict=True):
            body = bytearray(icc)
            for _ in range(rng.choice([1, 5, 30])):
                body[rng.randrange(rng.choice([140, len(body)]))] = rng.randrange(256)
            opened(encoded(image, "TIFF", icc_profile=bytes(body)))


def test_threads_share_transforms() -> None:
    profiles = [rgb_profile(ADOBE_RGB, 1.5 + i / 32) for i in range(40)]  # more than are kept
    image = picture("a")
    bodies = [encoded(image, "PNG", icc_profile=icc) for icc in profiles]
    expected = [by_cms(image, icc).tobytes() for icc in profiles]
    order = [i for _ in range(5) for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: opened(bodies[i]).tobytes(), order))
    assert found == [expected[i] for i in order]


INKS = {
    (0, 255, 255, 0): (255, 0, 0),
    (255, 0, 255, 0): (0, 255, 0),
    (255, 255, 0, 0): (0, 0, 255),
    (0, 0, 0, 0): (255, 255, 255),
    (0, 0, 0, 255): (0, 0, 0),
    (0, 0, 0, 128): (127, 127, 127),
}


def ycck(image: Image.Image) -> bytes:
    """A JPEG as Photoshop writes them: inks as luminance and chrominance, inverted."""
    c, m, y, k = image.split()
    planes = [ImageChops.invert(p) for p in Image.merge("RGB", (c, m, y)).convert("YCbCr").split()]
    body = bytearray(encoded(Image.merge("CMYK", (*planes, k)), quality=100))
    transform = body.index(b"Adobe") + 11
    assert body[transform] == 0
    body[transform] = 2
    return bytes(body)


@pytest.mark.parametrize("inks", INKS)
def test_cmyk_without_a_profile_is_converted_by_pillow(inks: Colour) -> None:
    image = patch(inks, "CMYK")
    bodies = [
        encoded(image, quality=100),
        ycck(image),
        encoded(image, "TIFF"),
        encoded(image, "TIFF", compression="tiff_lzw"),
    ]
    for body in bodies:
        assert far(middle(opened(body)), INKS[inks]) <= 3
        assert far(middle(opened(body, 20)), INKS[inks]) <= 3


@pytest.mark.parametrize("inks", INKS)
def test_cmyk_with_a_profile_looks_as_printed(inks: Colour) -> None:
    icc, image = cmyk_profile(), patch(inks, "CMYK")
    expected = middle(by_cms(image, icc))
    for body in (encoded(image, quality=100, icc_profile=icc), encoded(image, "TIFF", icc_profile=icc)):
        assert far(middle(opened(body, 20)), expected) <= 3
    if inks == (0, 255, 255, 0):
        red, green, blue = expected
        assert red > 150 > 100 > max(green, blue)
        assert far(expected, (255, 0, 0)) > 20


def test_lab_is_converted() -> None:
    lab = ImageCms.profileToProfile(
        picture("a"), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    for options in ({}, {"compression": "tiff_lzw"}):
        assert far(opened(encoded(lab, "TIFF", **options)), picture("a")) <= 4


def png(pixels: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits: Pillow writes only grey ones."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def tiff(pixels: np.ndarray, photometric: int, order: str = "<") -> bytes:
    """A TIFF of 16 bits, not compressed."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{channels}H", *[16] * channels).ljust(8, b"\0")
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8), (259, 3, 1, 1), (262, 3, 1, photometric)]
    entries += [(273, 4, 1, 16), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data))]
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        value = value if tag != 258 or count > 1 else 16
        directory += struct.pack(
            f"{order}HHI" + ("HH" if short else "I"), tag, kind, count, *((value, 0) if short else (value,))
        )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 16 + len(data)) + bits + data + directory + bytes(4)


def test_sixteen_bits_are_scaled_to_eight() -> None:
    rng = np.random.default_rng(2)
    deep = np.repeat(np.repeat(rng.integers(0, 65536, (5, 6, 4)), 8, 0), 8, 1)
    rgb, gray, alpha = deep[..., :3], deep[..., :1], deep[..., 3:]
    for body in (png(rgb, 2), tiff(rgb, 2), tiff(rgb, 2, ">")):
        assert far(opened(body), rgb / 257) <= 1
    for body in (png(gray, 0), tiff(gray, 1), tiff(gray, 1, ">"), tiff(65535 - gray, 0)):
        assert far(opened(body), np.repeat(gray / 257, 3, 2)) <= 1
    white = 65535 - alpha
    assert far(opened(png(deep, 6)), (rgb * (alpha / 65535) + white) / 257) <= 3
    assert far(opened(png(deep[..., 2:], 4)), np.repeat((deep[..., 2:3] * (alpha / 65535) + white) / 257, 3, 2)) <= 3


@pytest.mark.parametrize("depth", [8, 12])
def test_grey_of_sixteen_bits_may_use_a_smaller_range(depth: int) -> None:
    gray = np.repeat(np.repeat(np.random.default_rng(3).integers(0, 2**depth, (5, 6, 1)), 8, 0), 8, 1)
    gray[0] = 2**depth - 1
    for body in (png(gray, 0), tiff(gray, 1)):
        assert far(opened(body), np.repeat(gray * 255 / (2**depth - 1), 3, 2)) <= 1


def test_a_tiff_of_eight_bits_where_zero_is_white_is_not_inverted_twice() -> None:
    gray = Image.linear_gradient("L").resize((64, 64))
    assert far(opened(encoded(gray, "TIFF", tiffinfo={262: 0})), gray.convert("RGB")) <= 1


def test_transparent_pixels_leave_no_fringe() -> None:
    image = Image.new("RGBA", (200, 200), (255, 0, 0, 0))
    image.paste((0, 200, 0, 255), (0, 0, 97, 200))
    pixels = np.asarray(opened(encoded(image, "PNG"), 50), float)
    assert np.abs(pixels[..., 0] - pixels[..., 2]).max() <= 4  # green and white, mixed in any way
