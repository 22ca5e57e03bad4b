"""`aitax demo`: the whole way, for people who have no archive at hand.

Generates a small GBIF, serves it on loopback, and then does what a user would do with the real one: build, serve,
identify. Nothing below this module knows that it is a demo.
"""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aitax_ray import pipeline
from aitax_ray.demo.server import serve_world
from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import DOI, build_world, num_photos, unseen_photo
from aitax_ray.progress import progress
from aitax_ray.serving.client import identify_files
from aitax_ray.serving.serve import ServeSettings, free_port, serving, wait_for_ctrl_c
from aitax_ray.settings import build_settings

log = logging.getLogger(__name__)

# What suits 14 species, some 800 small photographs and two cores without a GPU: a small network, from scratch.
SETTINGS: dict[str, Any] = {
    "image_size": 160,
    "arch": "shufflenet_v2_x1_0",
    "pretrained": False,
    "crop_size": 80,
    "batch_size": 32,
    "epochs": 22,
    "lr": 3e-3,
    "concurrency": 16,
}
UNSEEN_SPECIES, UNSEEN_SEED = 3, 20260101


def run_demo(root: Path | None, *, once: bool, port: int) -> None:
    """Build an engine from a generated world below `root` (by default a temporary folder), identify, serve on.

    With `once` it ends after the identification. Raises AitaxError as the stages do.
    """
    begin = time.monotonic()
    served = {"port": port, "allow_private_hosts": True}
    # Told now rather than after the build.
    free_port("127.0.0.1", build_settings(ServeSettings, {"engine": "", **served}).port)
    with contextlib.ExitStack() as stack:
        folder = (
            root if root is not None else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-demo-")))
        )
        world = folder / "world"
        address = stack.enter_context(_served_world(world))
        flags = {"root": str(folder), "doi": DOI, "gbif_url": address, "allow_private_hosts": True, **SETTINGS}
        log.info(
            "a small GBIF answers at %s; now, as long as it does, the same as with the real one:\n\n    %s\n",
            address,
            _as_command(flags),
        )
        reports = {report.stage: report for report in pipeline.build(flags, {})}
        top1 = reports["evaluate"].metrics["top1"] or 0.0
        counts = reports["evaluate"].counts
        photo = folder / "unseen.jpg"
        kind = SPECIES[UNSEEN_SPECIES]
        photo.write_bytes(unseen_photo(kind, UNSEEN_SEED))
        service = stack.enter_context(serving(ServeSettings(engine=str(folder), **served)))
        log.info(
            "a photograph that is in no archive, of %s:\n\n    aitax identify %s --url %s\n", kind.name, photo, service
        )
        identify_files([photo], engine=None, url=service, together=False, max_results=3, as_json=False)
        log.info(
            "top-1 on the test split: %.1f %% (%d photographs, %d species), after %.0f s; report: %s",
            100 * top1, counts["test"], counts["species"], time.monotonic() - begin, folder / "evaluation/report.html",
        )  # fmt: skip
        if not once:
            wait_for_ctrl_c(service)


@contextlib.contextmanager
def _served_world(folder: Path) -> Iterator[str]:
    """Serve the world in `folder`, drawn if it is not there; it keeps its address, since its archive holds it."""
    remembered = folder / "port"
    port = int(remembered.read_text(encoding="ascii")) if remembered.exists() else 0
    with serve_world(folder, port) as address:
        if not remembered.exists():
            shutil.rmtree(folder, ignore_errors=True)  # half a world
            with progress("drawing photographs", num_photos(), "photographs") as advance:
                build_world(folder, base_url=address, advance=advance)
            remembered.write_text(address.rsplit(":", 1)[1], encoding="ascii")
        yield address


def _as_command(flags: dict[str, Any]) -> str:
    words = ["aitax build"]
    for name, value in flags.items():
        flag = name.replace("_", "-")
        words.append(
            f"--{'' if value is not False else 'no-'}{flag}" + (f" {value}" if not isinstance(value, bool) else "")
        )
    return " ".join(words)
