"""Convert any colours to sRGB: ICC profiles, CMYK, 16 bits, palettes, transparency.

There are two steps, `plain` before the image is shrunk and `to_srgb` after it, so that the slow one has fewer pixels.
"""

import io
from collections.abc import Iterator
from functools import lru_cache

from PIL import Image, ImageChops, ImageCms

MAX_PROFILE_BYTES = 4 << 20  # the largest, of printers, have 3 MB
CACHED_TRANSFORMS = 32  # cameras and programs use few profiles; a large one takes some megabytes
BAND = 256  # rows
SAME = 2  # of 255; different profiles for sRGB differ by at most that
PHOTOMETRIC_INTERPRETATION = 262  # TIFF tag
MODES = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}  # colour space of a profile -> mode of its pixels


def plain(image: Image.Image) -> Image.Image:
    """Convert to a mode that can be shrunk: L, RGB, CMYK, LAB; La or RGBa if there is transparency."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        return _eight_bits(image)
    if image.has_transparency_data:
        # Colours are multiplied by alpha. Else the colours of transparent pixels would show at edges.
        alpha = "LA" if mode in ("1", "L", "LA") else "RGBA"
        return (image if mode == alpha else image.convert(alpha)).convert("La" if alpha == "LA" else "RGBa")
    if mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def to_srgb(image: Image.Image, profile: object = None) -> Image.Image:
    """Convert the result of `plain` to RGB on white. The file's ICC profile is used if it is valid."""
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
        white = Image.new("RGB", image.size, "white")
        return Image.composite(to_srgb(image.convert(image.mode[:-1]), profile), white, image.getchannel("A"))
    if image.mode == "LAB":
        profile = b""  # its colours are absolute
    elif not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES:
        return image.convert("RGB")
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB")
    return transform.apply(image if image.mode == transform.input_mode else image.convert(transform.input_mode))


@lru_cache(CACHED_TRANSFORMS)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB; None if it has no effect, does not fit the pixels or is damaged.

    Threads may share it: Little CMS does not change it.
    """
    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            described = MODES.get(source.profile.xcolor_space.strip(), "")
            if described != mode and (described, mode) != ("RGB", "L"):  # grey pixels often have an RGB profile
                return None
            mode = described
        transform = ImageCms.ImageCmsTransform(
            source, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB"
        )
        return None if mode in ("L", "RGB") and _changes_nothing(transform, mode) else transform
    except Exception:
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Try a transform on all greys and on colours from the whole RGB cube."""
    levels = range(0, 256, 17)
    colours = bytes(v for red in levels for green in levels for blue in levels for v in (red, green, blue))
    greys = bytes(v for grey in range(256) for v in (grey, grey, grey))
    pixels = Image.frombytes("RGB", (16, 272), colours + greys) if mode == "RGB" else Image.linear_gradient("L")
    difference = ImageChops.difference(transform.apply(pixels), pixels.convert("RGB"))
    return max(difference.tobytes()) <= SAME


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 16 or more bits to 0..255. Pillow's conversion would clip: all but nearly black becomes white."""
    # Pillow inverts such a TIFF only if it has 8 bits.
    zero_is_white = getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
    # The range in use may be smaller than the depth: 8 bits, or 12 of a sensor. It is the smallest usual range that
    # includes the brightest pixel.
    ranges = (255.0, 4095.0, 65535.0) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)
    # A grey picture has one pair of extremes; Pillow's types allow a pair for each channel.
    brightest = max(float(band.getextrema()[1]) for _, band in _bands(image))  # type: ignore[arg-type]
    full = next((top for top in ranges if brightest <= top), brightest)
    grey = Image.new("L", image.size)
    for top, band in _bands(image):
        grey.paste(band.point(lambda value: value * (255.0 / full)).convert("L"), (0, top))
    return ImageChops.invert(grey) if zero_is_white else grey


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Cut an image of one channel into bands in mode I or F, each with its first row: they take little memory."""
    for top in range(0, image.height, BAND):
        band = image.crop((0, top, image.width, min(top + BAND, image.height)))
        yield top, band if image.mode in ("I", "F") else band.convert("I")
