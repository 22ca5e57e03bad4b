import io

import numpy as np
import pyarrow as pa
from PIL import Image

from aitax_ray.training.backbones import transform_for
from aitax_ray.training.views import decode_averaged_views, decode_views, random_view
from tests.small import jpeg, photo

TRANSFORM = transform_for("resnet18", 32)


def views_of(jpegs: list[bytes], views: int, seed: int = 0) -> list[np.ndarray]:
    batch = pa.table({"image_id": [f"id{n}" for n in range(len(jpegs))], "jpeg": jpegs})
    rows = decode_views(batch, TRANSFORM, views, seed)
    assert rows["image_id"].to_pylist() == batch["image_id"].to_pylist()
    return [np.frombuffer(flat, np.uint8).reshape(views, 32, 32, 3) for flat in rows["pixels"].to_pylist()]


def test_the_first_view_is_what_the_service_sees_and_the_others_are_crops() -> None:
    file = jpeg(photo("A12", 1))
    (views,) = views_of([file], 4)
    with Image.open(io.BytesIO(file)) as image:
        assert np.array_equal(views[0], TRANSFORM.pixels(image))
    assert len({view.tobytes() for view in views}) == 4
    # Crops of one photograph have its colour.
    assert np.abs(views.mean((1, 2)) - views[0].mean((0, 1))).max() < 25


def test_a_view_follows_from_seed_and_photograph_alone() -> None:
    files = [jpeg(photo("A12", n)) for n in range(3)]
    assert np.array_equal(views_of(files, 3)[1], views_of(files[:2], 3)[1])
    assert np.array_equal(views_of(files, 2)[1], views_of(files, 3)[1][:2])
    assert not np.array_equal(views_of(files, 2, seed=1)[1][1], views_of(files, 2)[1][1])


def test_the_views_that_the_index_averages_are_the_centre_its_mirror_image_and_crops() -> None:
    files = [jpeg(photo("A12", n)) for n in range(3)]

    def views_of_second(views: int, names: tuple[str, ...] = ("a", "b", "c")) -> np.ndarray:
        rows = decode_averaged_views(pa.table({"image_id": names, "jpeg": files}), TRANSFORM, views)
        return np.frombuffer(rows["pixels"][1].as_py(), np.uint8).reshape(views, 32, 32, 3)

    with Image.open(io.BytesIO(files[1])) as image:
        centre = TRANSFORM.pixels(image)
    four = views_of_second(4)
    assert np.array_equal(four[0], centre)
    assert np.array_equal(four[1], centre[:, ::-1])
    assert len({view.tobytes() for view in four}) == 4
    for views in (1, 2, 3):
        assert np.array_equal(views_of_second(views), four[:views])
    # A crop depends on the photograph alone.
    assert np.array_equal(views_of_second(4, ("x", "b", "y")), four)
    assert not np.array_equal(views_of_second(4, ("a", "other", "c"))[2:], four[2:])


def test_half_of_the_random_views_are_mirrored() -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 1, 3)))
    rising = [random_view(ramp, TRANSFORM, str(key)).mean((0, 2)) for key in range(60)]
    mirrored = sum(columns[-1] < columns[0] for columns in rising)
    assert 18 < mirrored < 42
