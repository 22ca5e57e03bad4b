import os
from pathlib import Path

import pytest

from aitax_ray.errors import GbifError
from aitax_ray.gbif.account import Account, explain_account, find_account

GBIF = "https://api.gbif.org"


def write_netrc(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


def test_the_environment_has_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBIF_USER", "ann")
    monkeypatch.setenv("GBIF_PWD", "secret")
    assert find_account(GBIF) == Account("ann", "secret", "")
    monkeypatch.setenv("GBIF_EMAIL", "ann@example.org")
    assert find_account(GBIF) == Account("ann", "secret", "ann@example.org")


def test_netrc_has_the_account_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "machine api.gbif.org login ann password secret\nmachine example.org login bob password other\n"
    write_netrc(tmp_path / "netrc", lines, monkeypatch)
    assert find_account(GBIF) == Account("ann", "secret")
    assert find_account("https://example.org/api") == Account("bob", "other")
    assert find_account("https://gbif.example") is None


def test_the_netrc_of_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_netrc(tmp_path / ".netrc", "machine api.gbif.org login ann password secret\n", monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in (None, ""):
        monkeypatch.delenv("NETRC", raising=False)
        if value is not None:
            monkeypatch.setenv("NETRC", value)
        assert find_account(GBIF) == Account("ann", "secret")


def test_the_environment_goes_before_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_netrc(tmp_path / "netrc", "machine api.gbif.org login ann password secret\n", monkeypatch)
    monkeypatch.setenv("GBIF_USER", "eve")
    assert find_account(GBIF) == Account("ann", "secret")  # half an account is none
    monkeypatch.setenv("GBIF_PWD", "hidden")
    assert find_account(GBIF) == Account("eve", "hidden")


def test_without_netrc_there_is_no_account() -> None:
    assert not Path(os.environ["NETRC"]).exists()
    assert find_account(GBIF) is None


def test_the_default_of_netrc_is_no_account_of_gbif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_netrc(tmp_path / "netrc", "default login anonymous password me@example.org\n", monkeypatch)
    assert find_account(GBIF) is None


@pytest.mark.parametrize(
    "text", ["machine api.gbif.org login ann passwort secret\n", "secret", "machine a \ud800secret"]
)
def test_the_error_of_a_bad_netrc_does_not_show_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "netrc").write_bytes(text.encode(errors="surrogatepass"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(GbifError, match=r"the netrc file cannot be read .*: mend it, or set GBIF_USER") as raised:
        find_account(GBIF)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("url", ["http://api.gbif.org", "http://127.0.0.1.example.org", "ftp://api.gbif.org"])
def test_a_password_does_not_go_in_the_clear_over_the_network(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_account(url) is None
    monkeypatch.setenv("GBIF_USER", "ann")
    monkeypatch.setenv("GBIF_PWD", "secret")
    with pytest.raises(GbifError, match=r"is not https.*: use https") as raised:
        find_account(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9200", "http://localhost", "http://[::1]:80/x"])
def test_this_machine_may_be_asked_without_https(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBIF_USER", "ann")
    monkeypatch.setenv("GBIF_PWD", "secret")
    assert find_account(url) == Account("ann", "secret")


def test_an_address_that_cannot_be_parsed_is_an_error() -> None:
    with pytest.raises(GbifError, match=r"--gbif-url .* is not an address"):
        find_account("http://[bad")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in f"{Account('ann', 'secret')} {Account('ann', 'secret')!r}"


def test_the_host_to_write_into_netrc_is_named() -> None:
    assert "a line for api.gbif.org into ~/.netrc" in explain_account(GBIF)
