"""What differs between two engines: species, photographs, figures, settings, sizes, versions of packages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aitax_ray.engine.bundle import Engine

if TYPE_CHECKING:
    import pyarrow as pa

Change = tuple[Any, Any]  # before, after; None: not there

# Fields of engine.json that are compared elsewhere, or differ always.
NOT_SETTINGS = {
    "version",
    "created",
    "classes",
    "names",
    "num_indexed",
    "caveats",
    "metrics",
    "export",
    "versions",
    "files",
}


@dataclass(frozen=True)
class Difference:
    """What differs. What both engines share is left out."""

    before: str
    after: str
    species_added: dict[str, str]
    """species_key -> name."""
    species_removed: dict[str, str]
    num_photographs: tuple[int, int]
    num_photographs_added: int
    num_photographs_removed: int
    metrics: dict[str, Change]
    settings: dict[str, Change]
    """Other fields of engine.json, such as `thresholds.min_score`."""
    sizes: dict[str, Change]
    """Bytes of each file whose size or content differs."""
    num_bytes: tuple[int, int]
    versions: dict[str, Change]


def find_difference(before: Engine, after: Engine) -> Difference:
    """Compare two engines. Raises EngineError when one is damaged."""
    one, two = before.info, after.info
    old, new = dict(zip(one.classes, one.names, strict=True)), dict(zip(two.classes, two.names, strict=True))
    old_images, new_images = before.image_ids(), after.image_ids()
    differing = {name for name in one.files.keys() | two.files.keys() if one.files.get(name) != two.files.get(name)}
    sizes = [{name: file.size for name, file in info.files.items() if name in differing} for info in (one, two)]
    settings = [dict(_flatten(info.model_dump(mode="json", exclude=NOT_SETTINGS))) for info in (one, two)]
    return Difference(
        before=one.version,
        after=two.version,
        species_added={key: name for key, name in new.items() if key not in old},
        species_removed={key: name for key, name in old.items() if key not in new},
        num_photographs=(one.num_indexed, two.num_indexed),
        num_photographs_added=_num_missing(new_images, old_images),
        num_photographs_removed=_num_missing(old_images, new_images),
        metrics=_changes(one.metrics | one.export, two.metrics | two.export),
        settings=_changes(*settings),
        sizes=_pairs(*sizes),
        num_bytes=(one.num_bytes, two.num_bytes),
        versions=_changes(one.versions, two.versions),
    )


def _num_missing(these: "pa.ChunkedArray", those: "pa.ChunkedArray") -> int:
    """Count the values that are not among the others."""
    import pyarrow.compute as pc

    return len(these) - int(pc.sum(pc.is_in(these, value_set=those)).as_py() or 0)


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the single values of JSON-like data with their place: `decisions.fusion.temperatures[0]`."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flatten(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _flatten(part, f"{name}[{number}]")
    else:
        yield name, value


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Change]:
    names = [*before, *(name for name in after if name not in before)]
    return {name: (before.get(name), after.get(name)) for name in names}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Change]:
    return {name: pair for name, pair in _pairs(before, after).items() if pair[0] != pair[1]}
