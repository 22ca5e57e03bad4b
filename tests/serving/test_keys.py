"""serving.keys: the file of keys, and the commands that change it."""

import json
from pathlib import Path

import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.serving.keys import VARIABLE, add_key, digest, locate_keys, read_keys, revoke_key, show_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


def test_a_key_is_random_and_the_file_has_only_its_hash(path: Path) -> None:
    first = add_key(path, "ann", 10, 2, ["https://Frogs.example/"])
    second = add_key(path, "ben")
    assert len(first) == 48
    assert first != second
    assert first not in path.read_text()
    keys = read_keys(str(path))
    assert [keys["ann"].sha256, keys["ben"].sha256] == [digest(first), digest(second)]
    assert (keys["ann"].per_day, keys["ann"].per_minute) == (10, 2)
    assert keys["ann"].origins == ("https://frogs.example",)
    assert (keys["ben"].per_day, keys["ben"].per_minute, keys["ben"].origins) == (None, None, ())


def test_a_revoked_key_is_gone_and_its_name_is_free_again(path: Path) -> None:
    first = add_key(path, "ann")
    with pytest.raises(SettingsError, match="there is a key ann"):
        add_key(path, "ann")
    revoke_key(path, "ann")
    assert read_keys(str(path)) == {}
    with pytest.raises(SettingsError, match=r"there is no key ann in .*: they are none"):
        revoke_key(path, "ann")
    assert add_key(path, "ann") != first
    assert list(read_keys(str(path))) == ["ann"]


def test_keys_are_listed_for_people_and_for_programs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = add_key(path, "ann", 10, None, ["https://frogs.example"])
    show_keys(path, as_json=False)
    text = capsys.readouterr().out
    assert text.split()[0] == "ann"
    assert "10/day      -/min  https://frogs.example" in text
    show_keys(path, as_json=True)
    assert json.loads(capsys.readouterr().out)["per_day"] == 10
    assert secret not in text


def test_a_line_without_its_end_is_no_key_yet_and_the_next_one_stands_alone(path: Path) -> None:
    add_key(path, "ann")
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    assert list(read_keys(str(path))) == ["ann"]
    path.write_text(whole.rstrip("\n"))  # as editors may leave it
    add_key(path, "ben")
    assert list(read_keys(str(path))) == ["ann", "ben"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not-a-hash\n", "line 1: no key"),
        ('{"name":"a","sha256":"secret","created":""}\n', r"line 1: no key \(sha256\)"),
        ('\n{"name":"a b","sha256":"' + "0" * 64 + '","created":""}\n', r"line 2: no key \(name\)"),
    ],
)
def test_a_bad_line_is_named_without_its_content(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        read_keys(str(path))
    assert "secret" not in str(caught.value)
    assert "not-a-hash" not in str(caught.value)


@pytest.mark.parametrize("given", [{"name": "a b"}, {"name": "a", "per_day": -1}, {"name": "a", "per_minute": 0}])
def test_wrong_limits_and_names_are_refused_before_anything_is_written(path: Path, given: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        add_key(path, **given)  # type: ignore[arg-type]
    assert not path.exists()


def test_an_absent_file_is_an_error_that_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(SettingsError, match="`aitax keys add NAME --keys FILE` makes one"):
        read_keys(str(path))


def test_the_lines_may_stand_in_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert locate_keys(None) is None
    add_key(path, "ann")
    monkeypatch.setenv(VARIABLE, path.read_text())
    located = locate_keys(None)
    assert located is not None
    assert list(read_keys(located)) == ["ann"]
    monkeypatch.chdir(path.parent)
    assert locate_keys(path.name) == str(path)  # the flag wins
    with pytest.raises(SettingsError, match=r"^AITAX_KEYS, line 1"):
        read_keys("{}")
