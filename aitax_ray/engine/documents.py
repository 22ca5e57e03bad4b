"""What an engine says about itself to its users: the data card, the evaluation, the model card, figures per species.

`split` and `evaluate` made these files. An engine has them without what is about single photographs or persons, which
stands between two marks: so nothing of a photograph that is withdrawn later is in them, and none is shown that its
licence does not allow to show.
"""

import logging
import re
from dataclasses import dataclass
from io import BytesIO

from aitax_ray import workspace
from aitax_ray.engine.bundle import Engine
from aitax_ray.workspace import Workspace

log = logging.getLogger(__name__)

DATA_CARD, REPORT, MODEL_CARD, PER_SPECIES = "data_card.html", "report.html", "model_card.md", "per_species.parquet"
SOURCES = {DATA_CARD: workspace.DATA_CARD, REPORT: workspace.REPORT, MODEL_CARD: workspace.MODEL_CARD}
PRIVATE = re.compile(rb"<!--private-->.*?<!--/private-->", re.DOTALL)
PHOTOGRAPH = re.compile(rb'src="(?!data:image/png;)')  # plots are PNG, photographs are not


@dataclass(frozen=True)
class SpeciesFigures:
    """What `evaluate` measured of a species."""

    num_train: int
    """Photographs that the classifier was trained with."""
    num_test: int
    top1: float | None
    """Share of the test photographs that got its name; None without test photographs."""


def collect_documents(ws: Workspace) -> dict[str, bytes | str]:
    """Collect the files for an engine: file of the engine -> its content, or the path to copy.

    What is missing is left out; so are pages that an earlier version made without the marks, with a warning.
    """
    found: dict[str, bytes | str] = {}
    for name, path in SOURCES.items():
        if not ws.storage.exists(path):
            continue
        content = PRIVATE.sub(b"", ws.storage.read_bytes(path))
        if PHOTOGRAPH.search(content):
            stage = path.partition("/")[0].replace("evaluation", "evaluate")
            log.warning(
                "the engine has no %s, because an earlier version made it: run `aitax %s --root %s --force`",
                name, stage, ws.root,
            )  # fmt: skip
        else:
            found[name] = content
    if ws.storage.exists(workspace.PER_SPECIES):
        found[PER_SPECIES] = workspace.PER_SPECIES
    return found


def read_caveats(ws: Workspace) -> list[str]:
    """Read what the data card says of the limits of an engine trained on the data."""
    card = ws.storage.read_json(workspace.DATA_CARD_JSON) if ws.storage.exists(workspace.DATA_CARD_JSON) else {}
    return list(card.get("caveats", []))


def read_figures(engine: Engine) -> dict[str, SpeciesFigures]:
    """Read the figures of the species: species_key -> figures; {} for an engine without them. Raises EngineError."""
    content = engine.read_file(PER_SPECIES)
    if content is None:
        return {}
    import pyarrow.parquet as pq

    columns = ["species_key", "num_train_images", "num_images", "top1"]
    rows = pq.read_table(BytesIO(content), columns=columns).to_pylist()
    return {row["species_key"]: SpeciesFigures(*(row[name] for name in columns[1:])) for row in rows}
