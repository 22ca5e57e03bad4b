import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.settings import build_settings


@pytest.mark.parametrize("entry", ["a.org", "a.org=5", "a.org=5/", "=5/5", "a.org=x/5", "a.org=0/5", "a.org=5/0"])
def test_a_limit_that_cannot_be_kept_is_refused(entry: str) -> None:
    with pytest.raises(SettingsError, match="--host-limits"):
        build_settings(DownloadSettings, {"root": "r", "host_limits": [entry]})


@pytest.mark.parametrize("host", ["http://a.org", "a.org:8080", "a.org/photos", "me@a.org"])
def test_a_limit_for_more_than_a_host_is_refused_since_it_would_apply_to_none(host: str) -> None:
    with pytest.raises(SettingsError, match="give the host alone"):
        build_settings(DownloadSettings, {"root": "r", "host_limits": [f"{host}=5/5"]})


def test_a_limit_for_a_host_is_kept_whatever_its_case() -> None:
    given = build_settings(DownloadSettings, {"root": "r", "host_limits": ["Photos.A.org=5/7.5", "127.0.0.1=1/1"]})
    assert given.host_limits == ("Photos.A.org=5/7.5", "127.0.0.1=1/1")
