"""`aitax doctor`: every check, one after the other."""

import sys

from aitax_ray.doctor.artifacts import check_artifacts
from aitax_ray.doctor.findings import Finding, format_findings, is_broken
from aitax_ray.doctor.look import look_at_cluster
from aitax_ray.doctor.nodes import judge_nodes
from aitax_ray.doctor.place import try_storage
from aitax_ray.errors import AitaxError


def examine(root: str | None) -> list[Finding]:
    """Check the machines, the cluster at RAY_ADDRESS, and, with a root, its storage and artifacts."""
    storage = try_storage(root) if root is not None else []
    nodes, cluster = look_at_cluster(root if root is not None and not is_broken(storage) else None)
    found = [*cluster, *judge_nodes(nodes), *storage]
    if root is not None and not is_broken(storage):
        found += check_artifacts(root)
    return found


def doctor(root: str | None, *, as_json: bool) -> None:
    """Print what the checks found. Raises AitaxError when something is broken."""
    found = examine(root)
    sys.stdout.write(format_findings(found, as_json=as_json))
    if is_broken(found):
        broken = [one for one in found if one.level == "broken"]
        raise AitaxError(f"{len(broken)} things are broken, the first: {broken[0].area}: {broken[0].text}")
