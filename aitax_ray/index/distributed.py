"""Writes the shards of an index as Ray tasks, on as many nodes as there are."""

from typing import TYPE_CHECKING

from aitax_ray.cluster import connect
from aitax_ray.errors import AitaxError
from aitax_ray.index.assemble import Share, write_share
from aitax_ray.index.settings import IndexSettings
from aitax_ray.progress import progress
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa


def write_shares(
    ws: Workspace, settings: IndexSettings, batches: "Callable[[], Iterable[pa.Table]]", shares: list[Share]
) -> None:
    """Write the shards, see assemble.write_share. A single one is written in this process."""
    if len(shares) == 1:
        write_share(ws, settings, batches, shares[0])
        return
    connect()
    import ray

    write = ray.remote(num_cpus=1)(write_share)
    with progress("index", len(shares), "shards") as advance:
        waiting = [write.remote(ws, settings, batches, share) for share in shares]
        while waiting:
            done, waiting = ray.wait(waiting)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:  # its text is a traceback
                raise (error.cause if isinstance(error.cause, AitaxError) else error) from error
            advance(len(done))
