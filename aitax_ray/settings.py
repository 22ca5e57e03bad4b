"""Settings: one frozen pydantic model a stage, each option written once, its help the text under the field.

Precedence is flags, then the stage's section in `aitax.yaml`, then the defaults. Fields marked `HOW` tell how the work
is done (addresses, resources) and not what comes out of it: changing one does not make a finished stage stale.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aitax_ray.errors import SettingsError


class How:
    """Marks a setting that does not change a stage's result."""


HOW = How()
SettingsT = TypeVar("SettingsT", bound=BaseModel)


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys forbidden, explained under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StageSettings(Settings):
    """What every stage that works under a root knows."""

    root: Annotated[str, HOW]
    """Folder, or URL such as s3://bucket/name, that holds everything this project makes; every node must reach it."""
    force: Annotated[bool, HOW] = False
    """Start over, even where the stage is complete or half done."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide what comes out, ready for JSON."""
        how = {
            name for name, field in type(self).model_fields.items() if any(isinstance(m, How) for m in field.metadata)
        }
        return self.model_dump(mode="json", exclude=how)


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Read `aitax.yaml`: a section a stage, keys spelled as flags or as fields; {} when there is no such file.

    Raises SettingsError when the file is not of that form.
    """
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values() if v is not None):
        raise SettingsError(f"{path} must hold a section a stage, such as `train:`, with settings below it")
    return {
        str(stage): {str(key).replace("-", "_"): value for key, value in (section or {}).items()}
        for stage, section in content.items()
    }


def build_settings(model: type[SettingsT], *sources: Mapping[str, Any]) -> SettingsT:
    """Validate settings from several sources, the first one that has a key wins.

    Raises SettingsError with one line that names each offending setting as the flag it is.
    """
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged.update(source)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(dict(e)) for e in error.errors())) from None


def flag(field: str) -> str:
    """Spell a field as its flag: `image_size` is `--image-size`."""
    return "--" + field.replace("_", "-")


def _explain(error: dict[str, Any]) -> str:
    name = flag(str(error["loc"][0])) if error["loc"] else ""
    if error["type"] == "missing":
        return f"{name} is needed"
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting here"
    return f"{name}: {error['msg']}".removeprefix(": ").replace("Value error, ", "")
