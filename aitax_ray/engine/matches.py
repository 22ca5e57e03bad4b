"""Finds photographs everywhere under a root, and records in the log of take-downs which ones a request is about.

They are looked for in the manifest, among the stored photographs, in the index and in all engines.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from aitax_ray import schemas, takedowns, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.index.added import TABLES
from aitax_ray.index.shards import ROWS
from aitax_ray.joins import as_frame
from aitax_ray.storage import Storage, is_of_the_storage
from aitax_ray.takedowns import Request

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

MANIFEST, DROPPED, IMAGES, LEDGER, INDEX, ENGINES = "manifest", "dropped rows", "images", "ledger", "index", "engines"
PLACES = (MANIFEST, DROPPED, IMAGES, LEDGER, INDEX)  # in the order of the stages; then the engines
CREDITED = ("image_id", "url", "gbif_id", "species_key", "creator", "rights_holder", "references")
COLUMNS = (*CREDITED, "final_url", "jpeg_sha256")
ROWS_PER_BATCH = 65_536
ROWS_OF_FORMAT_3 = "rows.parquet"  # engines of an earlier version have one table in place of shards

SERVICES = f"{workspace.ENGINES}/{takedowns.WITHDRAWN_FILE}"

Tables = Iterator[tuple[str, "pl.DataFrame"]]


def find_photographs(storage: Storage, criteria: Criteria) -> "pl.DataFrame":
    """Find the rows that are about some photographs: `place`, and COLUMNS, "" where a table has no such column.

    Photographs with the same pixels as those are found too, under whatever URL they are stored.
    """
    import polars as pl

    found = search(tables_of_root(storage, with_ledger=bool(criteria.urls)), criteria)
    if found.is_empty():
        return found
    image_ids = set(found["image_id"])
    pixels = {*found["jpeg_sha256"], *search(_images(storage), Criteria((), image_ids=image_ids))["jpeg_sha256"]} - {""}
    image_ids |= set(search(_images(storage), Criteria((), pixels=pixels))["image_id"])
    everywhere = search(tables_of_root(storage, with_ledger=False), Criteria((), image_ids=image_ids))
    return pl.concat([found, everywhere]).unique(maintain_order=True)


def record_matches(storage: Storage, requests: Sequence[Request], found: "pl.DataFrame") -> list[Request]:
    """Add what was found to each request in the log, and then to the list for running services."""
    recorded = [match(request, found) for request in requests]
    known = takedowns.read_requests(storage)
    for request in recorded:
        if request not in known:
            takedowns.write_request(storage, request)
    write_services(storage)
    return recorded


def write_services(storage: Storage) -> None:
    """Write the list for running services anew from the log."""
    takedowns.write_withdrawn(storage, SERVICES, takedowns.withdrawn_ids(takedowns.read_active_requests(storage)))


def match(request: Request, found: "pl.DataFrame") -> Request:
    """Add the photographs to a request that it is about, and those with the same pixels."""
    for _ in range(3):  # what the criterion is about; their pixels; those with the same pixels
        rows = found.filter(Criteria([request]).find(found))
        lists = {
            "image_ids": rows["image_id"],
            "urls": rows["url"],
            "gbif_ids": rows["gbif_id"],
            "jpeg_sha256": rows["jpeg_sha256"],
        }
        more = {name: sorted(set(column) - {""}) for name, column in lists.items()}
        request = request.joined_with(request.model_copy(update=more))
    return request


def search(tables: Iterable[tuple[str, "pl.DataFrame"]], criteria: Criteria) -> "pl.DataFrame":
    """Find the rows of some tables, see `find_photographs`."""
    import polars as pl

    schema = dict.fromkeys(("place", *COLUMNS), pl.String)
    found = [pl.DataFrame(schema=schema)]
    for place, rows in tables:
        some = rows.filter(criteria.find(rows))
        if some.height:
            if "image_id" not in some.columns:
                some = some.with_columns(image_id=pl.col("url").map_elements(schemas.image_id, pl.String))
            absent = [pl.lit("").alias(name) for name in COLUMNS if name not in some.columns]
            found.append(some.with_columns(*absent, place=pl.lit(place)).select(list(schema)).fill_null(""))
    return pl.concat(found).unique(maintain_order=True)


def tables_of_root(storage: Storage, *, with_ledger: bool) -> Tables:
    """Yield the place and some rows of all tables under a root that say whose photographs they are about."""
    yield from _parquet(storage, MANIFEST, workspace.MEDIA, CREDITED, schemas.MEDIA)
    yield from _parquet(storage, DROPPED, workspace.DROPPED, ("url", "gbif_id", "species_key"), schemas.DROPPED)
    yield from _images(storage)
    if with_ledger:
        yield from _parquet(storage, LEDGER, workspace.LEDGER, ("image_id", "url", "final_url"), schemas.LEDGER)
    yield from _parquet(storage, INDEX, TABLES[workspace.MEDIA], CREDITED, schemas.MEDIA)  # also of val and test
    yield from _shards(storage, INDEX, workspace.SHARDS)
    for engine in storage.entries(workspace.ENGINES):
        yield from tables_of_engine(storage, engine)


def tables_of_engine(storage: Storage, place: str) -> Tables:
    """Yield the rows of an engine in the folder `place`, also of one that an earlier version published."""
    name = place.rsplit("/", 1)[-1]
    yield from _parquet(storage, f"{ENGINES}/{name}", _join(place, ROWS_OF_FORMAT_3), CREDITED, schemas.INDEX_ROWS)
    yield from _shards(storage, f"{ENGINES}/{name}", _join(place, "shards"))


def _images(storage: Storage) -> Tables:
    columns = ("image_id", "url", "gbif_id", "species_key", "jpeg_sha256")
    yield from _parquet(storage, IMAGES, workspace.IMAGES, columns, schemas.IMAGES)


def _parquet(storage: Storage, name: str, path: str, columns: Iterable[str], schema: pa.Schema) -> Tables:
    """Yield a table that may be absent. `path` is a file or a folder with files."""
    paths = [file.path for file in storage.files(path, ".parquet")]
    if path.endswith(".parquet") and storage.exists(path):
        paths = [path]
    for file in paths:
        for batch in storage.read_batches(file, list(columns), ROWS_PER_BATCH, schema):
            yield name, as_frame(batch)


def _shards(storage: Storage, name: str, place: str) -> Tables:
    for shard in storage.entries(place):
        if storage.exists(f"{shard}/{ROWS}"):
            try:
                with storage.fs.open_input_file(storage.full(f"{shard}/{ROWS}")) as source:
                    rows = pa.ipc.open_file(source).read_all().select(CREDITED)
            except (OSError, KeyError, pa.ArrowException) as error:  # others can be searched all the same
                if is_of_the_storage(error):
                    raise storage.unreadable(f"{shard}/{ROWS}", error) from error
                log.warning("%s cannot be searched: %s", storage.address(shard), " ".join(str(error).split())[:200])
            else:
                yield name, as_frame(rows)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
