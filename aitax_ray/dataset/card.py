"""The data card: what the data set is made of, as a page for people, as JSON, and as Croissant for other tools."""

import io
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from aitax_ray import schemas, workspace
from aitax_ray.dataset import card_plots
from aitax_ray.dataset.caveats import plain, share
from aitax_ray.dataset.croissant import FILES, File, croissant
from aitax_ray.dataset.facts import MEANINGS, gather
from aitax_ray.plots import to_data_url
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace

THUMBNAIL = 96  # px, the longer side
ROWS = 16  # photographs in memory at a time, however many a file holds
LISTED = 60  # species in a table
# What is shown as bars: title, key among the facts, caption.
SHARES = (
    ("Hosts", "hosts", "Where the photographs were fetched from."),
    ("Licences", "licenses", "Of the photographs, by their SPDX names where there is one."),
    ("Countries", "countries", "Of the occurrences, by their ISO 3166 codes."),
    ("Basis of record", "bases", "How the occurrence came to be known: seen, collected, ..."),
    ("Datasets", "datasets", "The keys at GBIF of the datasets that the photographs come from."),
)


def write_card(ws: Workspace, settings: dict[str, Any], outcome: Outcome) -> None:
    """Write data_card.json, data_card.html and croissant.json, once the other files of split/ are there.

    `settings` and `outcome` are those of `split`, whose report is not there yet.
    """
    facts = gather(ws, settings, outcome)
    ws.storage.write_json(workspace.DATA_CARD_JSON, facts)
    wanted = [image["image_id"] for image in shown(facts)]
    ws.storage.write_bytes(workspace.DATA_CARD, render(facts, thumbnails(ws.storage, wanted)).encode())
    sizes = {file.path: file.size for folder in ("split", "manifest") for file in ws.storage.files(folder)}
    files = {path: File(ws.storage.sha256(path), sizes[path]) for path in FILES if path in sizes}
    ws.storage.write_json(workspace.CROISSANT, croissant(facts, files))


def shown(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """List the example photographs of duplicates and conflicts."""
    return [
        image
        for clusters in facts["clusters"].values()
        for example in clusters["examples"]
        for image in example["images"]
    ]


def render(facts: dict[str, Any], pictures: Mapping[str, str]) -> str:
    """Render the page from the facts (`facts.gather`) and the thumbnails: image_id -> data URL."""
    import jinja2

    template = resources.files("aitax_ray.dataset").joinpath("data_card.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = plain
    environment.filters["num"] = lambda number: f"{number:,}"
    environment.globals["share"] = share
    species = facts["species"]
    return environment.from_string(template).render(
        facts=facts,
        images=sum(side["num_images"] for side in facts["sides"].values()),
        pictures=pictures,
        meanings=MEANINGS,
        plots={
            "long_tail": card_plots.long_tail(species),
            "funnel": card_plots.funnel(facts["funnel"]),
            "years": card_plots.years(facts["years"]["counts"]),
            "world": card_plots.world(facts["map"]["cells"]),
            "sizes": card_plots.sizes(facts["sizes"]),
            "split": card_plots.split(facts["sides"]),
        },
        shares=[(title, caption, facts[key], card_plots.shares(facts[key])) for title, key, caption in SHARES],
        # The ends of a long list; its middle is in the JSON.
        listed=species if len(species) <= LISTED else species[: LISTED // 2] + species[-LISTED // 2 :],
        unused=facts["unused_species"]["species"][:LISTED],
    )


def thumbnails(storage: Storage, image_ids: Iterable[str]) -> dict[str, str]:
    """Make small JPEGs of these photographs as data URLs. Missing and broken photographs are left out.

    Reads only the files that hold them, a few photographs at a time: images/ may be hundreds of GB.
    """
    wanted, found = set(image_ids), dict[str, str]()
    for path in _shards(storage, wanted):
        if wanted:
            for image_id, jpeg in _read_jpegs(storage, path, wanted).items():
                wanted.discard(image_id)
                if small := _shrink(jpeg):
                    found[image_id] = small
    return found


def _shards(storage: Storage, wanted: set[str]) -> Iterable[str]:
    """The files of photographs: first those that the ledger names for the wanted ones, then all others."""
    import pyarrow.dataset as ds

    stored = [file.path for file in storage.files(workspace.IMAGES, ".parquet")]
    ledger = [storage.full(file.path) for file in storage.files(workspace.LEDGER, ".parquet")]
    named: set[str] = set()
    if ledger and wanted:
        table = ds.dataset(ledger, schema=schemas.LEDGER, format="parquet", filesystem=storage.fs).to_table(
            columns=["shard"], filter=ds.field("image_id").isin(sorted(wanted)) & (ds.field("shard") != "")
        )
        named = {f"{workspace.IMAGES}/{shard}" for shard in table["shard"].to_pylist()}
    yield from (path for path in stored if path in named)
    yield from (path for path in stored if path not in named)


def _read_jpegs(storage: Storage, path: str, wanted: set[str]) -> dict[str, bytes]:
    """The JPEGs of a file that are wanted: image_id -> JPEG."""
    import pyarrow.parquet as pq

    found: dict[str, bytes] = {}
    # The keys first, which are small. Without `pre_buffer` a column is read page by page.
    with pq.ParquetFile(storage.full(path), filesystem=storage.fs, pre_buffer=False, buffer_size=1 << 20) as file:
        for group in range(file.num_row_groups):
            keys = file.read_row_group(group, columns=["image_id"])["image_id"].to_pylist()
            missing = wanted & set(keys)
            if not missing:
                continue
            batches = file.iter_batches(ROWS, row_groups=[group], columns=["image_id", "jpeg"])
            for batch in batches:
                for number, image_id in enumerate(batch["image_id"].to_pylist()):
                    if image_id in missing:
                        found[image_id] = batch["jpeg"][number].as_py() or b""
                        missing.discard(image_id)
                if not missing:
                    break
    return found


def _shrink(jpeg: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
            small = image.convert("RGB")
    except (OSError, ValueError):
        return ""
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "jpeg", quality=80)
    return to_data_url(buffer.getvalue(), "jpeg")
