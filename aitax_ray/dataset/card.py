"""The data card: what the data set is made of, as a page for people, as JSON, and as Croissant for other tools."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from aitax_ray import workspace
from aitax_ray.dataset import card_plots
from aitax_ray.dataset.caveats import plain, share
from aitax_ray.dataset.croissant import FILES, File, croissant
from aitax_ray.dataset.facts import MEANINGS, gather
from aitax_ray.thumbnails import thumbnails
from aitax_ray.workspace import Outcome, Workspace

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
