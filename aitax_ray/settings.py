"""Settings: one frozen pydantic model per stage. Each option is written once, and its help is the text under the field.

Flags come first, then the stage's section in `aitax.yaml`, then the defaults. Fields marked `HOW` (addresses,
resources) say how the work is done. They do not change the result, so changing one does not make a stage stale.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aitax_ray.errors import SettingsError


class How:
    """Marks a setting that does not change the result of a stage."""


class ByRecipe:
    """Marks a setting whose default a recipe gives, see training/recipes.py."""


HOW, BY_RECIPE = How(), ByRecipe()
SettingsT = TypeVar("SettingsT", bound=BaseModel)


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys forbidden, explained under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StageSettings(Settings):
    """The settings of every stage that works under a root."""

    root: Annotated[str, HOW]
    """Folder or URL, such as s3://bucket/name, for all files of this project. Every node must be able to reach it."""
    force: Annotated[bool, HOW] = False
    """Start over, even if the stage is complete or was interrupted."""

    def result_fields(self) -> dict[str, Any]:
        """Give the settings that decide the result, ready for JSON."""
        how = {
            name for name, field in type(self).model_fields.items() if any(isinstance(m, How) for m in field.metadata)
        }
        return self.model_dump(mode="json", exclude=how)

    def shown(self) -> dict[str, Any]:
        """Give the settings in the form of aitax.yaml."""
        return self.model_dump(mode="json", exclude={"root", "force"})


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Read `aitax.yaml`, which has one section per stage; {} when there is no such file.

    Keys may be spelled as flags or as fields. Raises SettingsError when the file has another form.
    """
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values() if v is not None):
        raise SettingsError(f"{path} must hold one section per stage, such as `train:`, with settings below it")
    return {
        str(stage): {str(key).replace("-", "_"): value for key, value in (section or {}).items()}
        for stage, section in content.items()
    }


def build_settings(model: type[SettingsT], *sources: Mapping[str, Any]) -> SettingsT:
    """Validate settings from several sources; for each key the first source that has it wins.

    Raises SettingsError, whose one line names each wrong setting by its flag.
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
