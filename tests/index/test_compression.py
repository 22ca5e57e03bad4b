from pathlib import Path

import numpy as np
import pytest

from aitax_ray.errors import EngineError
from aitax_ray.index.compression import PROJECTION, fit, project, read_projection
from tests.index.vectors import unit

RNG = np.random.default_rng(0)
# Three dimensions with most of the variance, and a mean that is no variance.
LATENT = RNG.normal(size=(2000, 3)) @ np.diag([3, 2, 1.0])
VECTORS = unit(LATENT @ RNG.normal(size=(3, 20)) + 0.1 * RNG.normal(size=(2000, 20)) + 5).astype(np.float16)


def test_components_keep_the_number_or_the_share_that_is_asked_for() -> None:
    for asked, number in ((4, 4), (1, 1), (20, 20), (99, 20)):
        projection, info = fit(VECTORS, asked)
        assert projection.shape == (20, number)
        assert info.dimensions == number
    assert info.variance_kept == pytest.approx(1)
    projection, info = fit(VECTORS, 0.9)
    assert 1 <= info.dimensions <= 3
    centred = VECTORS.astype(np.float32) - VECTORS.astype(np.float32).mean(axis=0)
    kept = ((centred @ projection) ** 2).sum() / (centred**2).sum()
    assert info.variance_kept == pytest.approx(kept, abs=1e-3)
    assert info.variance_kept >= 0.9


def test_products_of_projected_vectors_are_in_the_order_of_the_full_ones() -> None:
    projection, _ = fit(VECTORS, 20)
    projected, query = project(VECTORS, projection), VECTORS[7].astype(np.float32)
    expected = VECTORS.astype(np.float32) @ query
    found = projected @ (query @ projection)
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-4)


def test_a_projection_that_is_missing_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be loaded"):
        read_projection(tmp_path, (20, 4))
    np.save(tmp_path / PROJECTION, fit(VECTORS, 4)[0])
    assert read_projection(tmp_path, (20, 4)).shape == (20, 4)
    with pytest.raises(EngineError, match=r"has the shape \(20, 4\), not \(20, 5\): publish the engine again"):
        read_projection(tmp_path, (20, 5))
