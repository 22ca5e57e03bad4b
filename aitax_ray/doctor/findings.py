"""Findings: what a check of `aitax doctor` saw, and what to do about it."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aitax_ray.text import escape_controls
from aitax_ray.web import hide_secrets

Level = Literal["ok", "warning", "broken"]
MARKS: dict[Level, str] = {"ok": "ok     ", "warning": "WARNING", "broken": "BROKEN "}


@dataclass(frozen=True)
class Finding:
    """What one check saw. `remedy` says what to do; it is empty when nothing needs to be done."""

    area: str
    level: Level
    text: str
    remedy: str = ""


def is_broken(findings: Sequence[Finding]) -> bool:
    """Tell whether something keeps a stage or the service from working."""
    return any(found.level == "broken" for found in findings)


def format_findings(findings: Sequence[Finding], *, as_json: bool) -> str:
    """Format findings in their order: a line each with its remedy below it, or a JSON list."""
    if as_json:
        shown = [{name: hide_secrets(value) for name, value in dataclasses.asdict(one).items()} for one in findings]
        return json.dumps(shown, ensure_ascii=False, indent=2) + "\n"
    width = max((len(found.area) for found in findings), default=0)
    lines = []
    for found in findings:
        lines.append(f"{MARKS[found.level]} {found.area:<{width}}  {found.text}")
        if found.remedy:
            lines.append(f"{' ' * (8 + width)}  -> {found.remedy}")
    counts = [f"{sum(f.level == level for f in findings)} {word}" for level, word in COUNTED]
    return "".join(f"{escape_controls(hide_secrets(line))}\n" for line in [*lines, ", ".join(counts)])


COUNTED = (("broken", "broken"), ("warning", "to look at"), ("ok", "fine"))
