"""`search.json` of a shard: how its vectors are searched, and what that was measured to find."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aitax_ray.errors import EngineError

SEARCH = "search.json"
BYTES_PER_ROW = 13  # in the memory of a service: 12 to find a row by its image_id, 1 for whether it is shown
AGAIN = "publish the engine again"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tree(_Part):
    """A search that divides the vectors into leaves, and reads the leaves whose centres are nearest to the query."""

    leaves: int
    leaves_to_search: int


class Scann(Tree):
    """ScaNN: a tree whose vectors are compared by short codes first. The best candidates are compared exactly."""

    reorder: int
    """Number of candidates that are compared exactly, for 10 neighbours."""
    in_memory: bool
    """ScaNN holds the vectors in memory as bfloat16. Otherwise the candidates are read from vectors.npy."""
    build_size: int
    """Number of vectors from which the leaves were made. Others were added to them later."""


class Asked(_Part):
    """The settings of `index` that decide what a tree searches. None: chosen from the vectors."""

    recall: float | None = None
    leaves_to_search: float | None = None
    reorder: int | None = None


class Compression(_Part):
    """The main components of the vectors, from which ScaNN makes its codes: projection.npy."""

    dimensions: int
    variance_kept: float


class Measured(_Part):
    """Figures against exact search, for vectors of the shard as queries. A query does not find itself.

    A neighbour counts as found when it is as near as the k-th nearest.
    """

    queries: int
    recall_at_1: float
    recall_at_10: float
    recall_at_100: float
    queries_per_second: float
    """With one thread, for 10 neighbours."""
    bytes_per_vector: float
    """What the search keeps in memory, beside the parts of vectors.npy that it reads."""
    build_s: float
    leaves_recall_at_10: float
    """Of the search without ScaNN."""


class SearchInfo(_Part):
    """How a shard is searched."""

    format: Literal[1] = 1
    num_rows: int
    dimensions: int
    scann: Scann | None
    """None: there is no ScaNN index."""
    tree: Tree | None
    """The search without ScaNN. None: every vector is compared with the query."""
    compression: Compression | None
    measured: Measured
    asked: Asked = Asked()

    @property
    def method(self) -> Literal["scann", "leaves", "exact"]:
        """The fastest search that the files allow."""
        return "scann" if self.scann else "leaves" if self.tree else "exact"

    def write(self, folder: Path) -> None:
        """Write search.json."""
        (folder / SEARCH).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "SearchInfo":
        """Read search.json. Raises EngineError when it is missing or broken."""
        try:
            content = (folder / SEARCH).read_bytes()
        except OSError as error:
            raise EngineError(f"{folder / SEARCH} cannot be read ({error.strerror}): {AGAIN}") from error
        return cls.parse(content, str(folder))

    @classmethod
    def parse(cls, content: bytes, folder: str) -> "SearchInfo":
        """Parse the content of search.json of a folder. Raises EngineError when it is broken."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            reason = " ".join(str(error.errors()[0]["msg"]).split())
            raise EngineError(f"{folder}/{SEARCH} cannot be read ({reason}): {AGAIN}") from error


def summarise(infos: Sequence[SearchInfo]) -> dict[str, float | None]:
    """Give the figures of all shards: means per vector, the sum of the build times, and the speed with one thread.

    A service keeps `bytes_per_photograph` in memory: what the search needs and what it knows of the rows.
    """
    num = sum(info.num_rows for info in infos)
    names = ("recall_at_1", "recall_at_10", "recall_at_100", "bytes_per_vector")
    figures: dict[str, float | None] = {
        name: sum(getattr(info.measured, name) * info.num_rows for info in infos) / num for name in names
    }
    per_vector = sum(info.measured.bytes_per_vector * info.num_rows for info in infos) / num
    figures["bytes_per_photograph"] = per_vector + BYTES_PER_ROW
    figures["queries_per_second"] = 1 / sum(1 / info.measured.queries_per_second for info in infos)
    figures["build_s"] = sum(info.measured.build_s for info in infos)
    if all(info.compression for info in infos):
        kept = [info.compression.variance_kept * info.num_rows for info in infos if info.compression]
        figures["variance_kept"] = sum(kept) / num
    return figures
