import pytest

from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.errors import SettingsError
from aitax_ray.settings import build_settings


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.9, 0.2), (0, 1), (-0.1, 0.1)])
def test_shares_that_leave_nothing_to_train_on_are_refused(val: float, test: float) -> None:
    with pytest.raises(SettingsError, match=r"--(val|test)"):
        build_settings(SplitSettings, {"root": "r", "val": val, "test": test})
