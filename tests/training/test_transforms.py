import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from aitax_ray.training.transforms import EvalTransform, resize_shorter_side
from tests.small import photo


def landscape(width: int, height: int) -> Image.Image:
    """Draw a picture with edges, waves and gradients, as in a photograph."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = 127 + 90 * np.sin(x / 9 + y / 23)
    channels = [waves, 255 * x / width, np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < height**2 / 9, 230, 40)]
    return Image.fromarray(np.stack(channels, axis=2).clip(0, 255).astype(np.uint8))


def reference(transform: EvalTransform, image: Image.Image) -> torch.Tensor:
    return v2.Compose(
        [
            v2.Resize(transform.resize_size, InterpolationMode(transform.interpolation), antialias=True),
            v2.CenterCrop(transform.crop_size),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(transform.mean, transform.std),
        ]
    )(image)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(512, 384), (384, 640), (128, 128), (1280, 960)])
def test_the_transform_is_torchvisions(interpolation: str, size: tuple[int, int]) -> None:
    transform = EvalTransform(crop_size=224, resize_size=256, interpolation=interpolation)  # type: ignore[arg-type]
    image = landscape(*size)
    ours = transform.normalize(transform.pixels(image)[None])[0]
    theirs = reference(transform, image).numpy()
    assert ours.shape == theirs.shape == (3, 224, 224)
    assert ours.dtype == np.float32
    # A step of a pixel's value is 0.017; Pillow reduces large photographs in two passes.
    assert np.abs(ours - theirs).mean() < 0.02
    assert np.quantile(np.abs(ours - theirs), 0.99) < 0.2


def test_pixels_are_the_middle_of_the_photograph() -> None:
    image = Image.new("RGB", (60, 40))
    image.paste((255, 255, 255), (20, 10, 40, 30))
    pixels = EvalTransform(crop_size=20, resize_size=40).pixels(image)
    assert pixels.shape == (20, 20, 3)
    assert (pixels == 255).all()


def test_normalization_uses_mean_and_deviation_of_each_channel() -> None:
    transform = EvalTransform(crop_size=1, resize_size=1, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = np.full((2, 1, 1, 3), 255, np.uint8)
    np.testing.assert_allclose(transform.normalize(pixels)[1].ravel(), [1.0, 1.0, 0.0], atol=1e-6)
    assert transform.normalize(pixels[:0]).shape == (0, 3, 1, 1)


@pytest.mark.parametrize(("size", "expected"), [((56, 44), (28, 22)), ((44, 56), (22, 28)), ((11, 30), (22, 60))])
def test_resizing_keeps_the_aspect(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize_shorter_side(photo("Z9", 0, size), 22).size == expected


def test_a_sliver_keeps_a_shorter_side_that_a_crop_fits_in() -> None:
    transform = EvalTransform(crop_size=32, resize_size=37)
    assert transform.pixels(Image.new("L", (3, 500))).shape == (32, 32, 3)


def test_a_transform_travels_as_json() -> None:
    transform = EvalTransform(crop_size=64, resize_size=70, interpolation="bicubic", mean=(0.1, 0.2, 0.3))
    assert EvalTransform.model_validate_json(transform.model_dump_json()) == transform
