"""An example of everything that the evaluation's page shows: figures as the real functions measure them."""

import base64
import io
from typing import Any

from PIL import Image

from aitax_ray.evaluation.page import list_shown
from tests.evaluation.worlds import make_metrics, make_world

LICENSES = ("CC-BY-NC-4.0", "CC0-1.0", "CC-BY-4.0", "unknown")
Page = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], dict[str, str], dict[str, Any]]


def make_page(num_classes: int = 8, num: int = 240, strength: float = 2.0) -> Page:
    """Make what `render_page` takes."""
    world = make_world(num_classes, num, num, strength, num_unknown=60, num_added=1)
    names = [row["name"] for row in world[1].species]
    difference = {"before": 0.9, "after": 0.8, "value": -0.1, "low": -0.2, "high": -0.02, "p_worse": 0.01}
    changed = {"species_key": "K1", "name": names[1], "before": 1.0, "after": 0.25, "num": 8}
    changes = {
        "against": "v1", "num_photographs": 50, "num_occurrences": 40, "top1": difference, "macro_top1": difference,
        "is_significantly_worse": True, "species": [changed], "added": difference | {"num_photographs": 12},
    }  # fmt: skip
    group = {"species": names[:2], "name": " / ".join(names[:2]), "genus": "Genus0"}
    metrics: dict[str, Any] = make_metrics(world, changes=changes, num_suspects=37, untested=["Nova tria"])
    metrics["knn"] |= {"share": 0.2}
    metrics["lookalikes"] |= {"groups": [group]}
    metrics["calibration"]["trust"] = "The temperature comes from 120 validation occurrences."
    suspects = [
        {
            "image_id": f"s{place}", "labelled": name, "looks_like": names[place - 1], "confidence": 0.97,
            "occurrence": f"https://www.gbif.org/occurrence/{place}", "url": "",
        }
        for place, name in enumerate(names)
    ]  # fmt: skip
    shown = sorted(list_shown(metrics, suspects))
    credits = {
        image_id: {
            "creator": ("Ana Martínez", "L. Brower", "")[place % 3],
            "license": LICENSES[place % len(LICENSES)],
            "references": f"https://www.inaturalist.org/observations/{place}",
        }
        for place, image_id in enumerate(shown)
    }
    thumbnails = {image_id: _draw(place) for place, image_id in enumerate(shown)}
    return metrics, world[1].species, suspects, describe(), thumbnails, credits


def describe() -> dict[str, Any]:
    """Make the description of an engine and its data."""
    return {
        "arch": "vit_small_patch14_dinov2", "recipe": "fine-tune", "head": "linear", "embedding_size": 384,
        "version": "0.1.0", "created": "2026-06-01T12:00:00", "num_train": 2104, "num_train_occurrences": 1600,
        "doi": "10.15468/dl.abcdef", "citation": "GBIF.org (1 May 2026) GBIF Occurrence Download",
        "licenses": {"CC-BY-NC-4.0": 1404, "CC0-1.0": 400, "CC-BY-4.0": 250, "unknown": 50},
        "caveats": ["92 % of the photographs lie on one host."], "curves": _draw(0), "min_group": 30, "test_set": "",
    }  # fmt: skip


def _draw(number: int) -> str:
    """Draw a thumbnail as a data URL, another one for each number."""
    sink = io.BytesIO()
    Image.new("RGB", (20 + number, 16), (number % 256, 120, 90)).save(sink, "jpeg")
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"
