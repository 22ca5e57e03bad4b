"""Settings of the `index` stage."""

from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field

from aitax_ray.licenses import Policy
from aitax_ray.takedowns import read_active_requests
from aitax_ray.training.settings import InferenceSettings
from aitax_ray.workspace import Workspace

SIDES = {"train": ("train",), "all": ("train", "val", "test")}


class IndexSettings(InferenceSettings):
    """Settings of `index`."""

    sides: Literal["train", "all"] = "train"
    """Index the photographs of the train side of the split, or of all sides."""
    views: Annotated[int, Field(ge=1)] = 1
    """Average the embeddings of this many views: the centre, its mirror image, then random crops."""
    recall: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fail unless a search finds this share of the 10 nearest photographs. The default aims at 0.95 and never fails."""
    memory: Annotated[ByteSize, Field(gt=0)] | None = None
    """Memory that the search may take, such as 8GB. With less, it reads the vectors of its candidates from disk."""
    compression: Annotated[float, Field(gt=0)] | None = None
    """Make ScaNN's codes from this number of main components, or from those that keep this share of variance."""
    leaves: Annotated[int, Field(ge=1)] | None = None
    """Number of leaves of ScaNN's tree. By default the square root of the number of photographs."""
    leaves_to_search: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the leaves that a search reads: a larger share is slower and finds more. By default --recall decides."""
    reorder: Annotated[int, Field(ge=1)] | None = None
    """Number of candidates whose similarity a search computes exactly. By default --recall decides."""
    shown_license: Policy = "any"
    """Show photographs under these licences: open (CC0, BY, BY-SA), non-commercial (any Creative Commons), or any."""
    thumbnails: bool = True
    """Add small copies of the shown photographs to the engine, so that the service can show them itself."""
    thumbnail_size: Annotated[int, Field(ge=32, le=1024)] = 256
    """Longer side of these copies, in pixels."""
    photographs_per_shard: Annotated[int, Field(ge=1)] = 1_000_000
    """Maximum number of photographs in a shard. Shards are built and searched in parallel."""
    add: tuple[str, ...] = ()
    """Other roots, complete until `split`: add their photographs and species without training (see docs/add.md)."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide what comes out, and digests of what is added."""
        return super().result_fields() | {"added": [_digest(Workspace(root)) for root in self.add]}


def _digest(ws: Workspace) -> list[str]:
    requests = [request.name for request in read_active_requests(ws.storage)]
    return [*(ws.digest(stage) for stage in ("manifest", "download", "split")), *requests]
