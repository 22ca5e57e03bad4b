"""What is read from GBIF's answers, checked: one of another shape is GBIF's mistake, and is told in a sentence."""

from typing import Any

from aitax_ray.errors import GbifError

SHOWN = 200  # characters of a reason


def describe(status: int, body: Any) -> str:
    """An answer in a few words: its status, and the reason where it gives one as plain text."""
    text = " ".join(body.split())[:SHOWN] if isinstance(body, str) else ""
    return f"{status} ({text})" if text else str(status)


def read_count(body: dict[str, Any], name: str) -> int:
    """A count, 0 where there is none. Raises GbifError when it is no number."""
    value = body.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _strange(name, value, "a number")
    return value


def read_text(body: dict[str, Any], name: str) -> str:
    """A text, "" where there is none. Raises GbifError when it is something else."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _strange(name, value, "a text")
    return value or ""


def read_object(body: dict[str, Any], name: str) -> dict[str, Any]:
    """An object within another, {} where there is none. Raises GbifError when it is something else."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise _strange(name, value, "an object")
    return value or {}


def read_objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects, [] where there is none. Raises GbifError when it is something else."""
    value = body.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(entry, dict) for entry in value)):
        raise _strange(name, value, "a list of objects")
    return value or []


def _strange(name: str, value: Any, wanted: str) -> GbifError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return GbifError(f"GBIF answers with {name} {shown}, not {wanted}: check --gbif-url, or try later")
