import pytest
from pydantic import ValidationError

from aitax_ray.errors import SettingsError
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.settings import flag


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(ValidationError):
        ManifestSettings(root="r", archive="x", number=0)


@pytest.mark.parametrize("name", ["archive", "gbif_url"])
@pytest.mark.parametrize(
    "url",
    [
        "https://ann:s3cr3t@example.org/a.zip",
        "HTTP://s3cr3t@example.org/a.zip",
        "s3://key:s3cr3t@bucket/a.zip",
        "simplecache::https://ann:s3cr3t@example.org/a.zip",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"{flag(name)}: the address holds a user or password") as raised:
        ManifestSettings(root="r", **{name: url})
    assert "s3cr3t" not in f"{raised.value!r} {raised.value.__cause__!r}"


@pytest.mark.parametrize(
    "url", ["abfss://frogs@account.dfs.core.windows.net/a.zip", "https://example.org:8080/@ann/a.zip?by=ann@x.org"]
)
def test_an_at_sign_alone_is_no_password(url: str) -> None:
    assert ManifestSettings(root="r", archive=url).archive == url
