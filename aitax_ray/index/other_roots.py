"""Checks that the photographs of other roots can be added: complete, not outdated, and named by the same checklist."""

from collections.abc import Sequence

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError, StaleArtifactError
from aitax_ray.workspace import Workspace

STAGES = ("manifest", "download", "split")


def check_roots(ws: Workspace, roots: Sequence[str]) -> None:
    """Check the roots that are to be added.

    Raises MissingArtifactError or StaleArtifactError unless STAGES of each are complete and up to date, DataError when
    a root is given twice, or when its species keys come from another checklist.
    """
    for stage in STAGES if roots else ():
        ws.require(stage)
    addresses = [ws.storage.address(), *(Workspace(root).storage.address() for root in roots)]
    for place, address in enumerate(addresses):
        if address in addresses[:place]:
            raise DataError(f"--add {address}: a root is added once, and not to itself")
    for other in map(Workspace, roots):
        for stage in STAGES:
            inputs = other.require(stage).inputs
            changed = [name for name, digest in inputs.items() if other.digest(name) != digest]
            if changed:
                raise StaleArtifactError(
                    f"`{stage}` of --add {other.root} was made from an earlier `{changed[0]}`: "
                    f"run `aitax {stage} --root {other.root}` again first"
                )
        _check_checklist(ws, other)


def _check_checklist(ws: Workspace, other: Workspace) -> None:
    """Raise DataError unless the species keys of both roots come from one checklist, as far as can be seen."""
    remedy = f"run `aitax manifest --root {other.root}` with the --checklist of {ws.root}"
    here, there = (root.storage.read_json(workspace.QUERY).get("checklist_key") or "(none)" for root in (ws, other))
    if here != there:
        raise DataError(
            f"--add {other.root} names species by the checklist {there}, this root by {here}, so their species keys "
            f"cannot be compared: {remedy}"
        )
    names, others = _read_names(ws), _read_names(other)
    key_of = {name: key for key, name in names.items()}
    for key, name in others.items():
        if key not in names and name in key_of:
            raise DataError(
                f"--add {other.root} has {name} under the species key {key}, this root under {key_of[name]}, so it "
                f"would become a second species: {remedy}"
            )
    shared = [key for key in others if key in names]
    renamed = [key for key in shared if names[key] != others[key]]
    if 2 * len(renamed) > len(shared):  # a few names change with each version of a checklist
        key = renamed[0]
        raise DataError(
            f"--add {other.root} and this root mean other species by the same keys, such as {key}: {others[key]} and "
            f"{names[key]}: {remedy}"
        )


def _read_names(ws: Workspace) -> dict[str, str]:
    """The name of each species that has a name, and photographs in the split."""
    used = set(ws.storage.read_table(workspace.SPLIT, ["species_key"])["species_key"].to_pylist())
    taxa = ws.storage.read_table(workspace.TAXA, ["species_key", "name"], schemas.TAXA).to_pylist()
    return {row["species_key"]: row["name"] for row in taxa if row["name"] and row["species_key"] in used}
