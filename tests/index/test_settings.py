import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.index.settings import IndexSettings
from aitax_ray.settings import build_settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"leaves_to_search": 0},
        {"leaves_to_search": 1.1},
        {"reorder": 0},
        {"shown_license": "cc"},
        {"thumbnail_size": 8},
    ],
)
def test_invalid_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="--" + next(iter(wrong)).replace("_", "-")):
        build_settings(IndexSettings, {"root": "r", **wrong})


def test_memory_is_written_with_its_unit() -> None:
    settings = build_settings(IndexSettings, {"root": "r", "memory": "8GB"})
    assert settings.memory == 8_000_000_000
    assert build_settings(IndexSettings, {"root": "r", "memory": 5}).memory == 5
