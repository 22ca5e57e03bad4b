"""Writes report.html and model_card.md: gathers what they tell beside the figures."""

from datetime import UTC, datetime
from typing import Any

from aitax_ray import __version__, schemas, workspace
from aitax_ray.evaluation.page import list_shown, render_model_card, render_page
from aitax_ray.index.added import read_joined
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
    test_set: str = "",
) -> None:
    """Write both pages into `folder`, from the figures, the rows per species and the list of suspects.

    `test_set` names where the photographs come from if not from the test side.
    """
    shown = list_shown(metrics, suspects)
    about = _describe(ws, species) | {"min_group": min_group, "test_set": test_set}
    page = render_page(metrics, species, suspects, about, thumbnails(ws.storage, shown, THUMBNAIL), _credit(ws, shown))
    ws.storage.write_bytes(f"{folder}/report.html", page.encode())
    ws.storage.write_bytes(f"{folder}/model_card.md", render_model_card(metrics, about).encode())


def _describe(ws: Workspace, species: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe the engine and its data, see `render_page`."""
    import pyarrow.compute as pc

    from aitax_ray.training.predict import read_info

    info, query = read_info(ws), ws.storage.read_json(workspace.QUERY)
    split = read_joined(ws, workspace.SPLIT, ["image_id", "gbif_id", "species_key", "split"])
    train = split.filter(pc.equal(split["split"], "train"))
    media = read_joined(ws, workspace.MEDIA, ["image_id", "license_id"], schemas.MEDIA)
    used = media.filter(pc.is_in(media["image_id"], split["image_id"].combine_chunks()))
    card = ws.storage.read_json(workspace.DATA_CARD_JSON) if ws.storage.exists(workspace.DATA_CARD_JSON) else {}
    return {
        "arch": info.arch,
        "recipe": ws.require("train").settings.get("recipe"),
        "head": info.head,
        "embedding_size": info.embedding_size,
        "created": datetime.now(UTC).isoformat(),
        "version": __version__,
        "doi": query.get("doi"),
        "citation": query.get("citation"),
        "num_train": sum(row["num_train_images"] for row in species),
        "num_train_occurrences": train.group_by(["gbif_id", "species_key"]).aggregate([]).num_rows,
        "licenses": {entry["values"].as_py(): entry["counts"].as_py() for entry in used["license_id"].value_counts()},
        "caveats": card.get("caveats", []),
        "curves": to_data_url(ws.storage.read_bytes(CURVES)) if ws.storage.exists(CURVES) else "",
    }


def _credit(ws: Workspace, image_ids: set[str]) -> dict[str, dict[str, str]]:
    """Author, licence and web page of some photographs, by image_id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["image_id", "creator", "rights_holder", "license_id", "references"]
    media = read_joined(ws, workspace.MEDIA, columns, schemas.MEDIA)
    rows = media.filter(pc.is_in(media["image_id"], pa.array(sorted(image_ids), pa.string()))).to_pylist()
    return {
        row["image_id"]: {
            "creator": row["creator"] or row["rights_holder"],
            "license": row["license_id"],
            "references": row["references"],
        }
        for row in rows
    }
