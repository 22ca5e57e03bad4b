"""Commands whose flags are the fields of settings models. No stage is known here."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aitax_ray.errors import SettingsError
from aitax_ray.settings import ByRecipe

CONFIG = "aitax.yaml"
Config = Annotated[Path, Parameter(help="File with settings, one section per command.")]


def add_command(
    app: App,
    name: str,
    models: Mapping[str, type[BaseModel]],
    run: Callable[[dict[str, Any], Path], None],
    text: str,
    others: Mapping[str, tuple[str, Callable[[dict[str, Any], Path], None]]] | None = None,
) -> None:
    """Add a command whose flags are the fields of settings models; `models` maps headings of its help to models.

    A field that several models have becomes one flag. `run` gets only the flags that were given, so that the file and
    the defaults decide the others. `others` maps names of flags to their help, and to what is called in place of `run`.
    """
    parameters: dict[str, inspect.Parameter] = {}
    groups: dict[str, Group] = {}
    for order, (own, model) in enumerate(models.items(), 1):
        for field_name, field in model.model_fields.items():
            known = sum(field_name in other.model_fields for other in models.values())
            heading = own if known == 1 else "every stage" if known == len(models) else "several stages"
            group = groups.setdefault(heading, Group(heading, sort_key=order if known == 1 else 0))
            text_of_field = f"{field.description}{_show_default(field)}"
            given: Any = field.annotation
            # Fields that are lists take several values: --splits train val.
            shown = Parameter(
                help=text_of_field, group=group, show_default=False, consume_multiple=True, negative_iterable=()
            )
            annotation = Annotated[given | None, shown]  # None: not given
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.setdefault(field_name, inspect.Parameter(field_name, kind, default=None, annotation=annotation))
    for other, (help_text, _) in (others or {}).items():
        shown = Parameter(help=help_text, negative="")
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters[other] = inspect.Parameter(other, kind, default=False, annotation=Annotated[bool, shown])
    config = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=Path(CONFIG), annotation=Config)

    def entry(**given: Any) -> None:
        file = given.pop("config", None)
        if file is not None and not file.exists():
            raise SettingsError(f"--config {file}: there is no such file")
        file = file or Path(CONFIG)
        instead = [call for other, (_, call) in (others or {}).items() if given.pop(other, False)]
        (instead or [run])[0]({key: value for key, value in given.items() if value is not None}, file)

    entry.__signature__ = inspect.Signature([*parameters.values(), config])  # type: ignore[attr-defined]  # what cyclopts reads
    entry.__doc__ = text
    app.command(entry, name=name)


def _show_default(field: FieldInfo) -> str:
    if any(isinstance(mark, ByRecipe) for mark in field.metadata):
        return " [default: the recipe's]"
    if field.is_required():
        return " [required]"
    if field.default in (None, "", ()):
        return ""
    shown = {True: "yes", False: "no"}[field.default] if isinstance(field.default, bool) else field.default
    if isinstance(shown, tuple):
        shown = " ".join(map(str, shown))
    return f" [default: {shown}]"
