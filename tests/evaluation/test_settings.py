import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.evaluation.settings import EvaluateSettings
from aitax_ray.settings import build_settings


@pytest.mark.parametrize("wrong", [{"inference_batch_size": 0}, {"num_classifiers": 0}, {"epochs": 1}])
def test_invalid_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="--" + next(iter(wrong)).replace("_", "-")):
        build_settings(EvaluateSettings, {"root": "r", **wrong})
