import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from aitax_ray.images.decode import Photo, normalize
from aitax_ray.images.fingerprint import PHASH_BYTES, fingerprint
from aitax_ray.schemas import IMAGES


def scene(seed: int, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Patches of colour at several scales: as different from each other as photographs are."""
    chance = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for cells in (4, 8, 16, 32):
        patches = Image.fromarray(chance.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(patches.resize(size, Image.Resampling.BICUBIC), np.float32) / 4
    return Image.fromarray(total.astype(np.uint8))


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def distance(one: Image.Image, other: Image.Image) -> int:
    first, second = (np.frombuffer(fingerprint(image)[0], np.uint8) for image in (one, other))
    return int(np.bitwise_count(first ^ second).sum())


def test_the_hash_has_its_size_and_half_of_its_bits_are_set() -> None:
    phash, _ = fingerprint(scene(1))
    assert len(phash) == PHASH_BYTES == IMAGES.field("phash").type.byte_width
    assert int(np.bitwise_count(np.frombuffer(phash, np.uint8)).sum()) == 4 * PHASH_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_near_and_others_are_far(seed: int) -> None:
    image = scene(seed)
    copies = {
        "recompressed": recompressed(image, 40),
        "half the size": recompressed(image.resize((200, 150), Image.Resampling.LANCZOS), 85),
        "twice the size": image.resize((800, 600), Image.Resampling.BICUBIC),
        "grey": image.convert("L").convert("RGB"),
        "brighter": ImageEnhance.Brightness(image).enhance(1.1),
    }
    assert {name: distance(image, copy) for name, copy in copies.items() if distance(image, copy) > 16} == {}
    assert distance(image, scene(seed + 100)) > 80


def test_contrast_is_that_of_the_brightness() -> None:
    assert fingerprint(Image.new("RGB", (300, 200), (10, 200, 30)))[1] == 0.0
    half = Image.new("RGB", (256, 128))
    half.paste((255, 255, 255), (0, 0, 128, 128))
    assert fingerprint(half)[1] == pytest.approx(127.5, abs=4)
    assert 0 < fingerprint(Image.linear_gradient("L").convert("RGB"))[1] < 127.5


def test_an_upright_photograph_carries_its_fingerprint() -> None:
    file = io.BytesIO()
    scene(7).save(file, "PNG")
    photo = normalize(file.getvalue(), 300)
    assert isinstance(photo, Photo)
    phash, contrast = fingerprint(scene(7))
    assert (photo.phash, photo.contrast) == (phash, pytest.approx(contrast))
