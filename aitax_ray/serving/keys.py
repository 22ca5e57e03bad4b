"""The keys of a service: a file of JSON lines with their sha256, and `aitax keys`, which adds lines to it.

Lines are only added, so a service may read the file at any time. A line with `revoked` ends the key of its name.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from aitax_ray.errors import SettingsError
from aitax_ray.settings import Settings

VARIABLE = "AITAX_KEYS"
"""Environment variable that holds the lines themselves, for containers."""
NUM_BYTES = 24  # of a key; nobody guesses 192 bits, so a fast hash is enough


class Key(Settings):
    """A key as its file has it."""

    name: Annotated[str, Field(pattern=r"^[\w.@-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: str
    """ISO 8601."""
    per_day: Annotated[int | None, Field(ge=0)] = None
    """Identifications per day (UTC); None: no limit."""
    per_minute: Annotated[int | None, Field(ge=1)] = None
    """Requests per minute; None: no limit."""
    origins: tuple[str, ...] = ()
    """Web origins that may use the key, such as https://frogs.example; (): all, and programs."""


class _Revoked(Settings):
    name: str
    revoked: str


def digest(key: str) -> str:
    """Compute what the file has of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def locate_keys(given: str | None) -> str | None:
    """Find the keys of a service: the path of a file, which becomes absolute, or lines; None: it needs no keys."""
    given = given or os.environ.get(VARIABLE, "").strip()
    if not given or given.startswith("{"):
        return given or None
    return os.path.abspath(given)  # noqa: PTH100  Path.absolute keeps the dots


def read_keys(located: str) -> dict[str, Key]:
    """Read the keys that are valid, by name. Raises SettingsError that names the line, and quotes nothing of it."""
    is_text = located.startswith("{")
    try:
        lines = (located if is_text else Path(located).read_text(encoding="utf-8")).splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"--keys {located}: {reason}: `aitax keys add NAME --keys FILE` makes one") from error
    found: dict[str, Key] = {}
    for number, line in enumerate(lines, 1):
        try:
            if '"revoked"' in line:
                found.pop(_Revoked.model_validate_json(line).name, None)
            elif line.strip():
                key = Key.model_validate_json(line)
                found[key.name] = key
        except ValidationError as error:
            if not is_text and not line.endswith("\n"):
                break  # somebody is writing it
            place = f"{VARIABLE}" if is_text else located
            what = ", ".join(str(each["loc"][0]) for each in error.errors() if each["loc"]) or "it is no JSON"
            raise SettingsError(f"{place}, line {number}: no key ({what})") from None
    return found


def add_key(
    path: Path, name: str, per_day: int | None = None, per_minute: int | None = None, origins: Sequence[str] = ()
) -> str:
    """Add a key, and return it: the file has only its hash. Raises SettingsError if the name is taken."""
    if path.exists() and name in read_keys(str(path)):
        raise SettingsError(f"there is a key {name} in {path}: revoke it first, or choose another name")
    secret, now = secrets.token_hex(NUM_BYTES), datetime.now(UTC).isoformat(timespec="seconds")
    # Browsers send origins in lower case and without a slash at the end.
    own = tuple(origin.rstrip("/").lower() for origin in origins)
    try:
        key = Key(
            name=name, sha256=digest(secret), created=now, per_day=per_day, per_minute=per_minute, origins=own
        )  # fmt: skip
    except ValidationError as error:
        problems = (f"{each['loc'][0]}: {each['msg']}" for each in error.errors())
        raise SettingsError("; ".join(problems)) from None
    _append(path, key.model_dump_json(exclude_defaults=True))
    return secret


def revoke_key(path: Path, name: str) -> None:
    """End a key: running services refuse it within seconds. Raises SettingsError if there is none of this name."""
    known = read_keys(str(path))
    if name not in known:
        raise SettingsError(f"there is no key {name} in {path}: they are {', '.join(known) or 'none'}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _append(path, _Revoked(name=name, revoked=now).model_dump_json())


def show_keys(path: Path, *, as_json: bool) -> None:
    """Print the keys that are valid: JSON lines, or a table."""
    for key in read_keys(str(path)).values():
        day, minute = (limit if limit is not None else "-" for limit in (key.per_day, key.per_minute))
        text = f"{key.name:<24} {key.created:<26} {day:>9}/day {minute:>6}/min  {' '.join(key.origins)}"
        sys.stdout.write((key.model_dump_json() if as_json else text.rstrip()) + "\n")


def _append(path: Path, line: str) -> None:
    """Add a line with one write, so that no reader sees two of them mixed."""
    try:
        content = path.read_bytes() if path.exists() else b""
        with path.open("ab") as file:
            file.write((b"" if not content or content.endswith(b"\n") else b"\n") + line.encode() + b"\n")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
