"""`aitax demo`: runs all steps, for people without an archive.

It generates a small GBIF, serves it on loopback, and does what a user does with the real one: build, serve, identify.
The stages do not know that it is a demo.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aitax_ray import pipeline
from aitax_ray.demo.server import serve_world
from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import DOI, build_world, num_photos, unseen_photo
from aitax_ray.errors import StorageError
from aitax_ray.progress import progress
from aitax_ray.serving.client import identify_files
from aitax_ray.serving.serve import free_port, serving, wait_for_ctrl_c
from aitax_ray.serving.settings import ServeSettings
from aitax_ray.settings import build_settings
from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

SETTINGS: dict[str, Any] = {
    "recipe": "linear-probe",  # with or without a GPU: the first answer is to come soon
    "image_size": 256,
    "concurrency": 16,
    "host_limits": ["127.0.0.1=16/1000"],  # the only host is the demo's own
}
UNSEEN_SPECIES, UNSEEN_SEED = 7, 20260101  # a typical one: of all photographs, one in twenty is rejected
WORLD = "world"
MARK = f"{WORLD}/demo.json"  # the port in the addresses of the archive, and whether all photographs are drawn


def run_demo(root: Path, *, once: bool, port: int) -> None:
    """Build an engine from a generated world below `root`, identify a photograph, and serve.

    Complete steps are not repeated. With `once` it ends after the identification. Raises the errors of the stages.
    """
    begin = time.monotonic()
    served = {"port": port, "allow_private_hosts": True}
    # A taken port ends the demo now, not after the build.
    free_port("127.0.0.1", build_settings(ServeSettings, {"engine": "", **served}).port)
    storage = Storage(str(root))
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(served_world(storage))
        flags = {"root": str(root), "doi": DOI, "gbif_url": address, "allow_private_hosts": True, **SETTINGS}
        log.info(
            "a small GBIF answers at %s; the next step is the same command as with the real one:\n\n    %s\n",
            address,
            _as_command(flags),
        )
        reports = {report.stage: report for report in pipeline.build(flags, {})}
        top1 = reports["evaluate"].metrics["top1"] or 0.0
        counts = reports["evaluate"].counts
        photo = root / WORLD / "unseen.jpg"
        kind = SPECIES[UNSEEN_SPECIES]
        storage.write_bytes(f"{WORLD}/{photo.name}", unseen_photo(kind, UNSEEN_SEED))
        service = stack.enter_context(serving(ServeSettings(engine=str(root), **served)))
        log.info(
            "a photograph that is in no archive, of %s:\n\n    aitax identify %s --url %s\n", kind.name, photo, service
        )
        identify_files([photo], engine=None, url=service, together=False, max_results=3, as_json=False)
        log.info(
            "top-1 on the test split: %.1f %% (%d photographs, %d species), after %.0f s; data: %s, report: %s",
            100 * top1, counts["test"], counts["species"], time.monotonic() - begin, root / "split/data_card.html",
            root / "evaluation/report.html",
        )  # fmt: skip
        if not once:
            wait_for_ctrl_c(service)


@contextlib.contextmanager
def served_world(storage: Storage) -> Iterator[str]:
    """Serve the world below a root, and draw it first if it is not there.

    The world keeps its address, since its archive contains it. Raises StorageError when the root cannot be written, or
    when it holds other files in that place.
    """
    folder = Path(storage.full(WORLD))
    mark = storage.read_json(MARK) if storage.exists(MARK) else None
    if mark is None and storage.files(WORLD):
        raise StorageError(
            f"{folder} holds files, and no mark that `aitax demo` made them: move them away or choose another --root"
        )
    with serve_world(folder, mark["port"] if mark else 0) as address:
        if not (mark and mark["drawn"]):
            mark = {"port": int(address.rsplit(":", 1)[1]), "drawn": False}
            storage.write_json(MARK, mark)
            try:
                with progress("drawing photographs", num_photos(), "photographs") as advance:
                    build_world(folder, base_url=address, advance=advance)
            except OSError as error:
                raise StorageError(
                    f"{folder} cannot be written ({error.strerror}): make room or choose another --root"
                ) from error
            storage.write_json(MARK, mark | {"drawn": True})
        yield address


def _as_command(flags: dict[str, Any]) -> str:
    words = ["aitax build"]
    for name, value in flags.items():
        flag = name.replace("_", "-")
        values = [] if isinstance(value, bool) else value if isinstance(value, list) else [value]
        words.append(" ".join([f"--{'' if value is not False else 'no-'}{flag}", *map(str, values)]))
    return " ".join(words)
