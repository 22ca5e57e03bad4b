"""Recipes: files with the settings of `train` that belong together. `aitax train --recipe NAME --show` prints one.

recipes/base.yaml has every value. Each other file has only the values that differ from it. A flag or a line in
aitax.yaml overrides any value.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

RecipeName = Literal["linear-probe", "fine-tune", "from-scratch", "ai-taxonomist"]
BASE = "base"


def read_recipe(name: RecipeName | None) -> dict[str, Any]:
    """Read the settings of a recipe; without a name, those of base.yaml."""
    return {**_read(BASE), **(_read(name) if name else {})}


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(files(__package__).joinpath(f"recipes/{name}.yaml").read_text("utf-8"))
    return content
