"""Writes report.html and model_card.md: gathers what they tell beside the figures."""

from datetime import UTC, datetime
from typing import Any

from aitax_ray import __version__, schemas, workspace
from aitax_ray.evaluation.page import MAX_SHOWN, render_model_card, render_page
from aitax_ray.plots import to_data_url
from aitax_ray.thumbnails import thumbnails
from aitax_ray.workspace import Workspace

THUMBNAIL = 200  # px
CURVES = "model/curves.png"


def write_pages(
    ws: Workspace,
    folder: str,
    metrics: dict[str, Any],
    species: list[dict[str, Any]],
    suspects: list[dict[str, Any]],
    min_group: int,
) -> None:
    """Write both pages into `folder`, from the figures, the rows per species and the list of suspects."""
    listed = suspects[:MAX_SHOWN]
    pairs = metrics["lookalikes"]["pairs"][:MAX_SHOWN]
    shown = {row["image_id"] for row in listed} | {pair[side] for pair in pairs for side in ("image_a", "image_b")}
    about = _describe(ws, species, min_group)
    page = render_page(
        metrics, species, listed, about, thumbnails(ws.storage, shown - {""}, THUMBNAIL), _credit(ws, shown)
    )
    ws.storage.write_bytes(f"{folder}/report.html", page.encode())
    ws.storage.write_bytes(f"{folder}/model_card.md", render_model_card(metrics, about).encode())


def _describe(ws: Workspace, species: list[dict[str, Any]], min_group: int) -> dict[str, Any]:
    """What the pages tell of the engine and its data."""
    import pyarrow.compute as pc

    from aitax_ray.training.predict import read_info

    info, query = read_info(ws), ws.storage.read_json(workspace.QUERY)
    split = ws.storage.read_table(workspace.SPLIT, ["image_id", "split"])
    tested = split.filter(pc.equal(split["split"], "test"))["image_id"]
    media = ws.storage.read_table(workspace.MEDIA, ["image_id", "license_id"], schemas.MEDIA)
    licenses = media.filter(pc.is_in(media["image_id"], tested.combine_chunks()))["license_id"].value_counts()
    return {
        "arch": info.arch,
        "head": info.head,
        "embedding_size": info.embedding_size,
        "created": datetime.now(UTC).isoformat(),
        "version": __version__,
        "doi": query.get("doi"),
        "citation": query.get("citation"),
        "num_train": sum(row["num_train_images"] for row in species),
        "licenses": {entry["values"].as_py(): entry["counts"].as_py() for entry in licenses},
        "curves": to_data_url(ws.storage.read_bytes(CURVES)) if ws.storage.exists(CURVES) else "",
        "min_group": min_group,
    }


def _credit(ws: Workspace, image_ids: set[str]) -> dict[str, str]:
    """Author and licence of some photographs, by image_id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["image_id", "creator", "rights_holder", "license_id"]
    media = ws.storage.read_table(workspace.MEDIA, columns, schemas.MEDIA)
    rows = media.filter(pc.is_in(media["image_id"], pa.array(sorted(image_ids), pa.string()))).to_pylist()
    return {
        row[
            "image_id"
        ]: f"© {row['creator'] or row['rights_holder'] or 'unknown'}, {row['license_id'] or 'licence unknown'}"
        for row in rows
    }
