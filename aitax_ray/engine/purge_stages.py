"""Deletes withdrawn photographs from what the stages wrote. Each step leads to the same files when it is repeated."""

import io
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from aitax_ray import schemas, workspace
from aitax_ray.images import inventory
from aitax_ray.index.added import TABLES
from aitax_ray.index.shards import read_rows
from aitax_ray.index.withdraw import drop_photographs
from aitax_ray.joins import as_frame
from aitax_ray.storage import Storage
from aitax_ray.takedowns import WITHDRAWN, Request, withdrawn_ids
from aitax_ray.workspace import FOLDERS, Workspace

log = logging.getLogger(__name__)

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}")  # how Storage names a local file until it is complete
UNFINISHED_FOR = timedelta(hours=3)  # one, and two more, because the clocks of nodes and storage may differ
PLAIN = ("jpeg", "thumbnail")  # columns whose content is compressed already


@dataclass(frozen=True)
class Withdrawn:
    """Photographs that are withdrawn."""

    image_ids: frozenset[str]
    urls: frozenset[str]
    gbif_ids: frozenset[str]
    """Occurrences that they are of; these may have other photographs."""

    @classmethod
    def of(cls, requests: Iterable[Request]) -> "Withdrawn":
        """Gather the photographs of some requests."""
        requests = list(requests)
        urls = frozenset(url for request in requests for url in request.urls)
        gbif_ids = frozenset(gbif_id for request in requests for gbif_id in request.gbif_ids)
        return cls(frozenset(withdrawn_ids(requests)), urls, gbif_ids)


def purge_stages(ws: Workspace, withdrawn: Withdrawn) -> None:
    """Delete the photographs from the files of all stages but publish, and correct the counts in their reports."""
    _purge_manifest(ws, withdrawn)
    _purge_download(ws, withdrawn)
    _purge_split(ws, withdrawn)
    for folder in FOLDERS["train"]:
        drop_rows(ws.storage, folder, withdrawn.image_ids)
    _purge_index(ws, withdrawn)
    _purge_evaluation(ws, withdrawn)
    _delete_unfinished_files(ws.storage)


def drop_rows(storage: Storage, folder: str, image_ids: Iterable[str], *, keep_empty: bool = False) -> list[str]:
    """Drop the rows of photographs from all Parquet files of a folder that have image_id; return the changed files.

    A file without rows is deleted unless `keep_empty`.
    """
    keys, changed = pa.array(sorted(image_ids), pa.string()), []
    for file in storage.files(folder, ".parquet"):
        num_dropped, num_rows = _count(storage, file.path, keys)
        if not num_dropped:
            continue
        changed.append(file.path)
        if num_dropped == num_rows and not keep_empty:
            storage.delete(file.path)
        else:
            storage.rewrite_table(
                file.path, lambda rows: rows.filter(pc.invert(pc.is_in(rows["image_id"], keys))), PLAIN
            )
    return changed


def _count(storage: Storage, path: str, keys: pa.Array) -> tuple[int, int]:
    """Count the rows of a file with one of the keys, and all its rows."""
    with pq.ParquetFile(storage.full(path), filesystem=storage.fs, pre_buffer=False) as file:
        if "image_id" not in file.schema_arrow.names:
            return 0, 0
        batches = file.iter_batches(columns=["image_id"])
        return sum(pc.sum(pc.is_in(batch["image_id"], keys)).as_py() or 0 for batch in batches), file.metadata.num_rows


def _purge_manifest(ws: Workspace, withdrawn: Withdrawn) -> None:
    import polars as pl

    storage = ws.storage
    drop_rows(storage, workspace.MEDIA, withdrawn.image_ids, keep_empty=True)
    if storage.exists(workspace.TAXA) and storage.exists(workspace.OCCURRENCES):
        occurrences = storage.read_table(workspace.OCCURRENCES, ["gbif_id", "species_key"])
        concerned = as_frame(occurrences).filter(pl.col("gbif_id").is_in(sorted(withdrawn.gbif_ids)))
        # In this order: the species follow from the occurrences.
        _recount_taxa(storage, set(concerned["species_key"]))
        _purge_occurrences(storage, workspace.OCCURRENCES, workspace.MEDIA, withdrawn)
    if storage.exists(workspace.DROPPED):
        urls = pa.array(sorted(withdrawn.urls), pa.string())
        addresses = storage.read_table(workspace.DROPPED, ["url"])
        if pc.any(pc.is_in(addresses["url"], urls)).as_py():
            storage.rewrite_table(workspace.DROPPED, lambda rows: _forget_urls(rows, urls))
    report = ws.report("manifest")
    if report is not None and "rows_read" in report.counts:
        kept = sum(_num_rows(storage, file.path) for file in storage.files(workspace.MEDIA, ".parquet"))
        reasons = _count_values(storage.read_table(workspace.DROPPED, ["reason"])["reason"])
        # Rows that were kept at first are not among the dropped ones: their numbers are not known.
        reasons[WITHDRAWN] = report.counts["rows_read"] - kept - sum(reasons.values()) + reasons.get(WITHDRAWN, 0)
        counts = {"kept": kept, "occurrences": _num_rows(storage, workspace.OCCURRENCES)}
        _correct_report(ws, "manifest", counts, reasons)


def _num_rows(storage: Storage, path: str) -> int:
    return int(pq.read_metadata(storage.full(path), filesystem=storage.fs).num_rows)


def _count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """Count the rows by value, the most frequent one first."""
    counts = {entry["values"].as_py(): entry["counts"].as_py() for entry in column.value_counts()}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _purge_occurrences(storage: Storage, path: str, media: str, withdrawn: Withdrawn) -> None:
    """Delete the occurrences that have no photograph any more. `media` is the file, or folder, that lists them."""
    import polars as pl

    if not storage.exists(path):
        return
    concerned, pairs = pl.col("gbif_id").is_in(sorted(withdrawn.gbif_ids)), ["gbif_id", "species_key"]
    names = [media] if media.endswith(".parquet") else [file.path for file in storage.files(media, ".parquet")]
    parts = [as_frame(storage.read_table(name, pairs)).filter(concerned) for name in names]
    occurrences = as_frame(storage.read_table(path))
    gone = occurrences.filter(concerned).select(pairs).unique()
    gone = gone.join(pl.concat([gone.clear(), *parts]), on=pairs, how="anti")
    if gone.height:
        rest = occurrences.join(gone, on=pairs, how="anti")
        storage.write_table(path, rest.to_arrow().cast(schemas.OCCURRENCES))


def _recount_taxa(storage: Storage, species: set[str]) -> None:
    import polars as pl

    columns = ["gbif_id", "species_key"]
    parts = [pl.DataFrame(schema=dict.fromkeys(columns, pl.String))]
    for file in storage.files(workspace.MEDIA, ".parquet"):
        rows = as_frame(storage.read_table(file.path, columns))
        parts.append(rows.filter(pl.col("species_key").is_in(sorted(species))))
    counts = pl.concat(parts).group_by("species_key").agg(occurrences=pl.col("gbif_id").n_unique(), images=pl.len())
    taxa = as_frame(storage.read_table(workspace.TAXA))
    counted = taxa.join(counts, on="species_key", how="left", validate="m:1", maintain_order="left")
    is_concerned = pl.col("species_key").is_in(sorted(species))
    for column, count in (("num_occurrences", "occurrences"), ("num_images", "images")):
        new = pl.when(is_concerned).then(pl.col(count).fill_null(0)).otherwise(column)
        counted = counted.with_columns(new.cast(pl.Int64).alias(column))
    storage.write_table(workspace.TAXA, counted.select(taxa.columns).to_arrow().cast(schemas.TAXA))


def _forget_urls(rows: pa.Table, urls: pa.Array) -> pa.Table:
    is_withdrawn = pc.is_in(rows["url"], urls)
    for column, value in (("reason", WITHDRAWN), ("url", "")):
        new = pc.if_else(is_withdrawn, value, rows[column])
        rows = rows.set_column(rows.schema.get_field_index(column), rows.schema.field(column), new)
    return rows


def _purge_download(ws: Workspace, withdrawn: Withdrawn) -> None:
    from aitax_ray.images.ledger import read_ledger

    storage = ws.storage
    changed = [path for folder in FOLDERS["download"] for path in drop_rows(storage, folder, withdrawn.image_ids)]
    inventory.record_changes(storage, changed)
    damaged = storage.entries(f"{workspace.IMAGES}/{inventory.DAMAGED}")
    if damaged:
        log.warning(
            "%d damaged files, such as %s, may hold withdrawn photographs: delete them", len(damaged), damaged[0]
        )
    if ws.report("download") is not None:
        with read_ledger(storage) as ledger:
            outcome = ledger.outcome()
        _correct_report(ws, "download", outcome.counts, outcome.reasons)


def _purge_split(ws: Workspace, withdrawn: Withdrawn) -> None:
    from aitax_ray.dataset.attribution import write_attribution
    from aitax_ray.dataset.card import write_card

    storage = ws.storage
    drop_rows(storage, "split", withdrawn.image_ids, keep_empty=True)
    report = ws.report("split")
    if report is None:
        return
    split = storage.read_table(workspace.SPLIT, ["split"])
    counts = {side: pc.sum(pc.equal(split["split"], side)).as_py() or 0 for side in ("train", "val", "test")}
    reasons = _count_values(storage.read_table(workspace.EXCLUDED, ["reason"])["reason"])
    report = _correct_report(ws, "split", counts, reasons)
    if report is not None and storage.exists(workspace.DATA_CARD_JSON):
        write_attribution(ws)
        write_card(
            ws, report.settings, workspace.Outcome(**report.model_dump(include=set(workspace.Outcome.model_fields)))
        )


def _purge_index(ws: Workspace, withdrawn: Withdrawn) -> None:
    for folder in ws.storage.entries(FOLDERS["index"][0]):
        drop_rows(ws.storage, folder, withdrawn.image_ids, keep_empty=folder == workspace.ADDED)
    _purge_occurrences(ws.storage, TABLES[workspace.OCCURRENCES], TABLES[workspace.MEDIA], withdrawn)
    drop_photographs(ws.storage, workspace.SHARDS, withdrawn.image_ids)
    if ws.report("index") is not None:
        has_shards = bool(ws.storage.entries(workspace.SHARDS))
        num_images = read_rows(ws.storage, ["image_id"]).num_rows if has_shards else 0
        _correct_report(ws, "index", {"images": num_images})


def _purge_evaluation(ws: Workspace, withdrawn: Withdrawn) -> None:
    """Delete answers, suspects and the thumbnails of the pages. The figures stay as they were measured."""
    import polars as pl

    from aitax_ray.evaluation.pages import write_pages
    from aitax_ray.evaluation.suspect_list import NUMBERS

    storage, report = ws.storage, ws.report("evaluate")
    folder = FOLDERS["evaluate"][0]
    drop_rows(storage, folder, withdrawn.image_ids, keep_empty=True)
    if report is None or not storage.exists(workspace.EVALUATION) or not storage.exists(workspace.SUSPECTS):
        return
    metrics = _without(storage.read_json(workspace.EVALUATION), withdrawn.image_ids)
    storage.write_json(workspace.EVALUATION, metrics)
    suspects = pl.read_csv(io.BytesIO(storage.read_bytes(workspace.SUSPECTS)), infer_schema=False).fill_null("")
    suspects = suspects.filter(~pl.col("image_id").is_in(sorted(withdrawn.image_ids)))
    storage.write_bytes(workspace.SUSPECTS, suspects.write_csv().encode())
    species = storage.read_table(workspace.PER_SPECIES).to_pylist()
    rows = suspects.with_columns(pl.col(NUMBERS).cast(pl.Float64)).to_dicts()
    if storage.exists(f"{folder}/report.html"):
        write_pages(ws, folder, metrics, species, rows, report.settings["min_group"])


def _delete_unfinished_files(storage: Storage) -> None:
    """Delete files that killed runs had begun to write, see Storage. A run that is at work may own newer ones."""
    if not isinstance(storage.fs, pafs.LocalFileSystem):
        return
    latest = datetime.now(UTC) - UNFINISHED_FOR
    for folder in sorted({folder for folders in FOLDERS.values() for folder in folders}):
        selector = pafs.FileSelector(storage.full(folder), recursive=True, allow_not_found=True)
        for info in storage.fs.get_file_info(selector):
            if info.is_file and UNFINISHED.fullmatch(info.base_name) and info.mtime < latest:
                storage.delete(info.path.removeprefix(f"{storage.base}/"))


def _without(value: Any, image_ids: frozenset[str]) -> Any:
    """Replace the keys of photographs in JSON-like data by nothing."""
    if isinstance(value, dict):
        return {name: _without(part, image_ids) for name, part in value.items()}
    if isinstance(value, list):
        return [_without(part, image_ids) for part in value]
    return "" if isinstance(value, str) and value in image_ids else value


def _correct_report(
    ws: Workspace, stage: str, counts: dict[str, int], reasons: dict[str, int] | None = None
) -> workspace.StageReport | None:
    """Write other counts into the report of a stage, and other reasons if they are given."""
    report = ws.report(stage)
    if report is None:
        return None
    changes: dict[str, Any] = {"counts": report.counts | counts}
    if reasons is not None:
        changes["reasons"] = {reason: num for reason, num in reasons.items() if num}
    report = report.model_copy(update=changes)
    ws.storage.write_json(f"{FOLDERS[stage][0]}/report.json", report.model_dump(mode="json"))
    return report
