"""Prints what `aitax engines` found: tables for people, JSON for programs."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aitax_ray.engine.diff import Change, Difference
from aitax_ray.engine.engines import Pruned, Summary, Swap, Verification
from aitax_ray.text import escape_controls

MAX_LINES = 20  # of each part of a comparison


def show(found: Any, *, as_json: bool) -> None:
    """Print what a function of engines.py or diff.py returned."""
    if as_json:
        content = [dataclasses.asdict(one) for one in found] if isinstance(found, list) else dataclasses.asdict(found)
        sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2, default=_as_text) + "\n")
        return
    match found:
        case Difference():
            _write_lines(_difference(found))
        case Swap():
            _write_lines([f"{found.after} is the current engine, before it was {found.before or 'none'}"])
        case Pruned():
            freed = (
                f"engines deleted: {len(found.deleted):,} ({format_size(found.num_bytes)}), kept: {len(found.kept):,}"
            )
            _write_lines([freed, *(f"  {version}" for version in found.deleted)])
        case [Verification(), *_]:
            _print_verifications(found)
        case _:
            _print_summaries(found)


def _as_text(value: datetime) -> str:
    return value.isoformat()


def _print_summaries(engines: Sequence[Summary]) -> None:
    """Print a line per engine. A star marks the current one."""
    headings = ("", "version", "created", "architecture", "species>", "photographs>", "top-1>", "size>", "problem")
    rows = [
        (
            "*" if one.is_current else "",
            one.version,
            f"{one.created:%Y-%m-%d %H:%M}" if one.created else "",
            one.arch,
            f"{one.num_species:,}",
            f"{one.num_photographs:,}",
            "" if one.top1 is None else f"{one.top1:.3f}",
            format_size(one.num_bytes),
            one.problem,
        )
        for one in engines
    ]
    _print_table(headings, rows)


def _print_verifications(found: Sequence[Verification]) -> None:
    """Print a line per engine, and one per problem."""
    rows = [
        (one.version, f"{one.num_files:,}", format_size(one.num_bytes), problem)
        for one in found
        for problem in (one.problems or ("intact",))
    ]
    _print_table(("version", "files>", "size>", "result"), rows)


def _difference(found: Difference) -> list[str]:
    """Write each part in which something differs."""
    before, after = found.num_photographs
    return [
        f"{found.before} -> {found.after}",
        f"photographs: {before:,} -> {after:,}: {found.num_photographs_added:,} added, "
        f"{found.num_photographs_removed:,} removed",
        f"size: {' -> '.join(map(format_size, found.num_bytes))}",
        *_names("species added", found.species_added),
        *_names("species removed", found.species_removed),
        *_changes("figures", found.metrics),
        *_changes("settings", found.settings),
        *_changes("files", {name: (_size(old), _size(new)) for name, (old, new) in found.sizes.items()}),
        *_changes("packages", found.versions),
    ]


def _write_lines(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{escape_controls(line)}\n" for line in lines))


def format_size(num_bytes: float) -> str:
    """Write a size as people read it.

    >>> format_size(999), format_size(1_234_567)
    ('999 B', '1.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _size(num_bytes: int | None) -> str | None:
    return None if num_bytes is None else format_size(num_bytes)


def _names(title: str, names: Mapping[str, str]) -> list[str]:
    return _shortened(title, [f"{name} ({key})" for key, name in names.items()])


def _changes(title: str, changes: Mapping[str, Change]) -> list[str]:
    return _shortened(title, [f"{name}: {_value(old)} -> {_value(new)}" for name, (old, new) in changes.items()])


def _shortened(title: str, lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - MAX_LINES:,} more (--json shows all)"] if len(lines) > MAX_LINES else []
    return [f"{title}: {len(lines):,}", *(f"  {line}" for line in lines[:MAX_LINES]), *more] if lines else []


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns with a space between them; headings that end with ">" are of columns of numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        right = heading.endswith(">")
        table.add_column(heading.rstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_controls(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
