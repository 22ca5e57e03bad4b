"""Check GBIF's answers while they are read: one of another shape is an error that says what was found."""

from typing import Any

from aitax_ray.errors import GbifError
from aitax_ray.text import escape_controls

MAX_REASON = 200  # characters
MAX_VALUE = 60


def describe(status: int, body: Any) -> str:
    """Describe an answer that says no: its status, and its reason where the body is plain text."""
    reason = escape_controls(" ".join(body.split()))[:MAX_REASON] if isinstance(body, str) else ""
    return f"{status} ({reason})" if reason else str(status)


def read_count(body: dict[str, Any], name: str) -> int:
    """Read a count, 0 where there is none. Raises GbifError when it is no whole number."""
    value = body.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong_type(name, value, "a number")
    return value


def read_text(body: dict[str, Any], name: str) -> str:
    """Read a text, "" where there is none. Raises GbifError when it is something else."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong_type(name, value, "a text")
    return value or ""


def read_object(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Read an object, {} where there is none. Raises GbifError when it is something else."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise _wrong_type(name, value, "an object")
    return value or {}


def read_objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Read a list of objects, [] where there is none. Raises GbifError when it is something else."""
    value = body.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(entry, dict) for entry in value)):
        raise _wrong_type(name, value, "a list of objects")
    return value or []


def _wrong_type(name: str, value: Any, expected: str) -> GbifError:
    shown = repr(value)
    shown = shown if len(shown) <= MAX_VALUE else f"{shown[:MAX_VALUE]}..."
    return GbifError(f"GBIF answers with {name} {shown}, not {expected}: check --gbif-url, or try later")
