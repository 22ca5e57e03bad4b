"""Adds the photographs and the species of other roots to the index, without retraining: writes index/added/.

manifest/, images/, split/ of each root   INPUT
index/added/                              OUTPUT, see aitax_ray.index.added

Species are matched by species_key. Photographs of the train side are indexed. Those of val and test judge the result.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.dataset.reasons import HELD_OUT
from aitax_ray.index import added, overlap
from aitax_ray.index.assemble import find_hidden
from aitax_ray.index.embeddings import PhotographRows, StoredPhotographs, source_suffix
from aitax_ray.index.settings import SIDES, IndexSettings
from aitax_ray.index.thumbnails import make_thumbnails
from aitax_ray.joins import as_frame, join_rows
from aitax_ray.progress import progress
from aitax_ray.takedowns import read_active_requests
from aitax_ray.training.inference import predictions
from aitax_ray.workspace import Outcome, Workspace

if TYPE_CHECKING:
    import polars as pl

    from aitax_ray.training.feed import Labels

ROWS_PER_FILE = 4096  # photographs that are embedded again after a kill, at most

log = logging.getLogger(__name__)


def add_roots(ws: Workspace, settings: IndexSettings, own: Iterable[pa.Table]) -> Outcome:
    """Write index/added/: the photographs and species of the other roots, embeddings, and rows of the head.

    `own` yields the embeddings of the training photographs of the root itself, as schemas.EMBEDDINGS. Returns counts,
    and the numbers of photographs that were left out by reason.
    """
    from aitax_ray.index.extend import extend_head
    from aitax_ray.training.feed import Labels, read_labels
    from aitax_ray.training.predict import read_info

    classes, others = read_info(ws).classes, [Workspace(root) for root in settings.add]
    chosen, reasons = _choose(ws, others, classes)
    new = sorted({key for rows in chosen for key in rows["species_key"].unique()} - set(classes))
    tables = _write_tables(ws, others, chosen, [*classes, *new], new)
    for other, split in zip(others, tables, strict=True):
        labels = Labels(split, ("train", "val", "test"))
        _store_views(ws, settings, labels, other)
        if settings.thumbnails:
            shown = Labels(split, SIDES[settings.sides]).without(find_hidden(ws, settings.shown_license))
            make_thumbnails(ws, shown, settings.thumbnail_size, other)
    metrics = {}
    if new:
        _store_views(ws, settings, read_labels(ws, "val"), ws)
        metrics = extend_head(ws, own)
    counts = {f"added_{side}": sum(rows.filter(split=side).height for rows in chosen) for side in ("train", "test")}
    return Outcome(counts=counts | {"added_species": len(new)}, reasons=reasons, metrics=metrics)


def _choose(
    ws: Workspace, others: Sequence[Workspace], classes: list[str]
) -> "tuple[list[pl.DataFrame], dict[str, int]]":
    """Choose the photographs of each root that are added, and count the others by reason."""
    import polars as pl

    max_distance = ws.require("split").settings.get("max_distance", 0)
    parts = [_read_photographs(other) for other in others]
    here, counted, chosen = _read_here(ws, parts), Counter[str](), list[pl.DataFrame]()
    for other, photographs in zip(others, parts, strict=True):
        criteria = Criteria([*read_active_requests(ws.storage), *read_active_requests(other.storage)])
        is_withdrawn = _find_withdrawn(criteria, other, photographs)
        counted[overlap.WITHDRAWN] += int(is_withdrawn.sum())
        rows = photographs.filter(~is_withdrawn)
        known = [*classes, *(key for part in chosen for key in part["species_key"].unique())]
        reason = overlap.find_overlap(here, rows, known, max_distance)
        counted.update(reason.filter(reason != "").to_list())
        chosen.append(rows.filter(reason == ""))
        here = pl.concat([here, chosen[-1].select(overlap.COLUMNS)])
    return chosen, {reason: num for reason, num in sorted(counted.items()) if num}


def _read_photographs(ws: Workspace) -> "pl.DataFrame":
    """Read schemas.SPLIT of a root, with jpeg_sha256 and phash of each photograph."""
    split = as_frame(ws.storage.read_table(workspace.SPLIT, schema=schemas.SPLIT))
    return join_rows(split, _read_hashes(ws), "image_id", workspace.IMAGES, how="left")


def _read_hashes(ws: Workspace) -> "pl.DataFrame":
    columns = ["image_id", "jpeg_sha256", "phash"]
    return as_frame(ws.storage.read_table(workspace.IMAGES, columns, schemas.IMAGES))


def _read_here(ws: Workspace, parts: "Sequence[pl.DataFrame]") -> "pl.DataFrame":
    """Read overlap.COLUMNS of the root: the photographs of its split, and those of species that were held out.

    Held-out photographs of a species that is now added are no photographs of an unknown species any more.
    """
    import polars as pl

    excluded = as_frame(ws.storage.read_table(workspace.EXCLUDED, schema=schemas.EXCLUDED))
    held_out = excluded.filter(reason=HELD_OUT).with_columns(split=pl.lit(HELD_OUT), group=pl.lit(None))
    for part in parts:
        held_out = held_out.join(part, on="species_key", how="anti")
    held_out = join_rows(held_out, _read_hashes(ws), "image_id", workspace.IMAGES, how="left")
    return pl.concat(
        [rows.select(overlap.COLUMNS) for rows in (_read_photographs(ws), held_out)], how="vertical_relaxed"
    )


def _find_withdrawn(criteria: Criteria, other: Workspace, photographs: "pl.DataFrame") -> "pl.Series":
    """Tell for each photograph of another root whether its author asked to withdraw it, here or there."""
    import polars as pl

    if not criteria:
        return pl.repeat(False, photographs.height, eager=True)
    columns = ["image_id", "url", "creator", "rights_holder", "references"]
    media = as_frame(other.storage.read_table(workspace.MEDIA, columns, schemas.MEDIA))
    return criteria.find(join_rows(photographs, media, "image_id", workspace.MEDIA, how="left"))


def _write_tables(
    ws: Workspace, others: Sequence[Workspace], chosen: "Sequence[pl.DataFrame]", classes: list[str], new: list[str]
) -> list[pa.Table]:
    """Write the tables of aitax_ray.index.added. Returns schemas.SPLIT of what is added from each root."""
    import polars as pl

    numbers = {key: number for number, key in enumerate(classes)}
    found: dict[str, list[Any]] = {path: [] for path in added.TABLES}
    for other, rows in zip(others, chosen, strict=True):
        number = pl.col("species_key").replace_strict(numbers, return_dtype=pl.Int32)
        rows = rows.with_columns(class_index=number)
        found[workspace.SPLIT].append(rows)
        media = as_frame(other.storage.read_table(workspace.MEDIA, schema=schemas.MEDIA))
        found[workspace.MEDIA].append(media.join(rows, on="image_id", how="semi"))
        seen = as_frame(other.storage.read_table(workspace.OCCURRENCES, schema=schemas.OCCURRENCES))
        found[workspace.OCCURRENCES].append(seen.join(rows, on=["gbif_id", "species_key"], how="semi"))
        taxa = as_frame(other.storage.read_table(workspace.TAXA, schema=schemas.TAXA))
        found[workspace.TAXA].append(taxa.filter(pl.col("species_key").is_in(new)))
    found[workspace.TAXA] = [pl.concat(found[workspace.TAXA]).unique("species_key", keep="first").sort("species_key")]
    names = {
        workspace.SPLIT: schemas.SPLIT,
        workspace.MEDIA: schemas.MEDIA,
        workspace.OCCURRENCES: schemas.OCCURRENCES,
        workspace.TAXA: schemas.TAXA,
    }
    tables = {path: [_as_arrow(part, names[path]) for part in parts] for path, parts in found.items()}
    for path, parts in tables.items():
        ws.storage.write_table(added.TABLES[path], pa.concat_tables(parts))
    return tables[workspace.SPLIT]


def _store_views(ws: Workspace, settings: IndexSettings, labels: "Labels", source: Workspace) -> None:
    """Embed the photographs of `source` and store the embeddings with their lengths, unless they are stored."""
    from aitax_ray.training.predict import ViewEmbedder, digest_backbone

    folder = f"{workspace.ADDED_VIEWS}/{digest_backbone(ws)[:16]}{source_suffix(source)}"
    views, stored = PhotographRows(ws.storage, folder, schemas.STORED_VIEWS), StoredPhotographs(source.storage)
    missing = labels.where(~np.isin(labels.image_ids, stored.image_ids[views.clean(stored)]))
    hashes = dict(_read_hashes(source).select("image_id", "jpeg_sha256").iter_rows())
    waiting: list[pa.Table] = []
    with progress("indexing", len(labels), "photographs") as advance:
        advance(len(labels) - len(missing))
        rows: Any = predictions(ws, missing, settings, ViewEmbedder, source=source) if len(missing) else None
        for batch in rows.iter_batches(batch_format="pyarrow", batch_size=None) if rows else ():
            of_batch = pa.array([hashes[key] for key in batch["image_id"].to_pylist()], pa.string())
            waiting.append(batch.append_column("jpeg_sha256", of_batch))
            advance(len(batch))
            if sum(map(len, waiting)) >= ROWS_PER_FILE:
                views.add(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            views.add(pa.concat_tables(waiting))


def delete_unused(ws: Workspace, roots: Sequence[str]) -> None:
    """Delete embeddings and thumbnails of other roots that are not added any more, and embeddings of other models."""
    from aitax_ray.training.predict import digest_backbone

    others = [source_suffix(Workspace(root)) for root in roots]
    views = [digest_backbone(ws)[:16] + suffix for suffix in (*others, source_suffix(ws))] if roots else []
    for path in ws.storage.entries(workspace.ADDED_VIEWS):
        if path.rsplit("/", 1)[-1] not in views:
            ws.storage.delete(path)
    for path in ws.storage.entries(workspace.THUMBNAILS):
        _kind, _size, *suffix = path.rsplit("/", 1)[-1].split("-")
        if suffix and f"-{suffix[0]}" not in others:
            ws.storage.delete(path)


def _as_arrow(frame: "pl.DataFrame", schema: pa.Schema) -> pa.Table:
    return frame.select(schema.names).to_arrow().cast(schema)
