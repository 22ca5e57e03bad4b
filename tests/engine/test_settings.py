import pytest

from aitax_ray.engine.settings import PublishSettings
from aitax_ray.errors import SettingsError
from aitax_ray.settings import build_settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_score": -0.1},
        {"max_total_score": 0},
        {"max_total_score": 1.1},
        {"quantize": "int4"},
        {"quantization": "none"},
        {"max_quantization_loss": 1.5},
    ],
)
def test_invalid_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="--" + next(iter(wrong)).replace("_", "-")):
        build_settings(PublishSettings, {"root": "r", **wrong})
