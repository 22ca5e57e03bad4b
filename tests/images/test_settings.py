import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.settings import build_settings


@pytest.mark.parametrize("entry", ["a.org", "a.org=5", "a.org=5/", "=5/5", "a.org=x/5", "a.org=0/5", "a.org=5/0"])
def test_a_limit_that_cannot_be_kept_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError, match="--host-limits"):
        build_settings(DownloadSettings, {"root": "r", "host_limits": [entry]})
