"""Stages, for scripts that disturb them in the middle: their inputs, when the middle is, and their results."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aitax_ray import schemas, workspace
from aitax_ray.engine.bundle import open_engine
from aitax_ray.index.shards import open_index
from aitax_ray.schemas import IMAGES
from aitax_ray.storage import Storage
from aitax_ray.training.history import read_history
from aitax_ray.workspace import Workspace
from tests.faults.cluster import Cluster, Command, Node, check, fail, say
from tests.images.test_download import fates, write_manifest
from tests.small import ARCH, CROP, write_model, write_root
from tests.web import HOSTS, Web

NUM_URLS = 400
SIDES = ("train",) * 350 + ("val",) * 125 + ("test",) * 200
LARGE_CROP = 160  # so that the network has some work
FIGURES = ("train_loss", "train_top1", "loss", "top1", "macro_top1", "lr")
NUM_EPOCHS = 12
MADE_FROM = {"evaluate": ("index",), "publish": ("index", "evaluate")}  # stage -> those that make its input
ROOM_BYTES = 250_000  # on the disk, which is full before the stage is complete
ROOM_FOR_TRAINING = 40_000_000  # for two or three checkpoints


@dataclass(frozen=True)
class Stage:
    """A stage that something happens to."""

    name: str
    flags: list[str]
    prepare: Callable[[Path], object]
    result: Callable[[Path], Any]
    """What must be the same as without a disturbance."""
    compare: Callable[[Any, Any], None]
    actor: str = ""
    """Part of the names of its workers on Ray; empty if it does not use Ray."""
    is_in_the_middle: Callable[[Path, Command], bool] = lambda root, command: True
    """Whether some of the work is done and stored."""
    room_bytes: int = ROOM_BYTES

    def begin(self, cluster: Cluster, root: Path) -> Command:
        """Begin the stage on a cluster."""
        return cluster.begin(self.name, "--root", root, *self.flags)

    def wait_for_the_middle(self, command: Command, root: Path, node: Node) -> None:
        """Wait until some of the work is done and stored, and a node works on more."""
        command.wait_until(
            lambda: self.is_in_the_middle(root, command) and node.is_at_work(self.actor), "it is in the middle"
        )


def stages(web: Web, folder: Path) -> dict[str, Stage]:
    """The stages. Their inputs are made below `folder` when they are first asked for."""
    urls = [web.url(f"/slow/0.3/{n}", HOSTS[n % len(HOSTS)]) for n in range(NUM_URLS)]
    urls += [web.url(f"/status/404/{n}") for n in range(20)]

    def downloaded(root: Path) -> None:
        storage = write_root(root, ("train",) * 400).storage
        storage.delete("split")
        storage.write_table(workspace.DROPPED, schemas.DROPPED.empty_table())

    def with_model(root: Path) -> None:
        made = folder / "with-model"
        if not made.exists():
            write_model(write_root(made, SIDES), crop_size=LARGE_CROP, onnx=True)
        shutil.copytree(made, root)

    def after(stage: str) -> Callable[[Path], object]:
        return lambda root: shutil.copytree(folder / f"{stage}-undisturbed", root)

    small = "--image-size 64 --allow-private-hosts --shard-size 16 --num-actors 2 --per-host-rate 10"
    plain = "--min-side 0 --max-distance 0"  # the photographs are small and plain
    on_two = ["--num-classifiers", "2", "--no-use-gpu"]
    short = f"--recipe from-scratch --arch {ARCH} --crop-size {CROP} --epochs {NUM_EPOCHS} --batch-size 8 --lr 1e-3"
    short += " --ema 0 --augment light --random-erasing 0 --final-epochs 0 --precision float32 --compile no"
    short += " --num-workers 2 --cpus-per-worker 1 --no-use-gpu"
    return {
        stage.name: stage
        for stage in (
            Stage(
                "download",
                small.split(),
                lambda root: write_manifest(root, urls),
                _photographs,
                _are_equal,
                "Worker",
                lambda root, _: len(fates(root)) > NUM_URLS // 4,
            ),
            Stage("split", plain.split(), downloaded, _sides, _are_equal),
            Stage(
                "index",
                [*on_two, "--photographs-per-shard", "400"],
                with_model,
                _vectors,
                _are_close,
                "Embedder",
                lambda root, _: bool(Storage(str(root)).files(workspace.EMBEDDINGS)),
            ),
            Stage(
                "evaluate",
                on_two,
                after("index"),
                _metrics,
                _are_close,
                "ViewEmbedder",
                lambda _, command: "evaluating: " in command.log(),
            ),
            Stage("publish", [], after("evaluate"), _checksums, _are_equal),
            Stage(
                "train",
                short.split(),
                lambda root: write_root(root, ("train",) * 24 + ("val",) * 8),
                lambda root: {
                    f"epoch {row['epoch']} {name}": row[name]
                    for row in read_history(Storage(str(root)))
                    for name in FIGURES
                },
                _are_close,
                "RayTrainWorker",
                lambda root, _: len(read_history(Storage(str(root)))) >= 2,
                ROOM_FOR_TRAINING,
            ),
        )
    }


def chosen(names: list[str], web: Web, folder: Path, *, on_ray: bool = True) -> Iterator[tuple[Stage, bool]]:
    """The stages with these names, all if there are none. One that only prepares another one comes with False.

    With `on_ray` only those that use Ray.
    """
    made = stages(web, folder)
    tried = names or [name for name, stage in made.items() if stage.actor or not on_ray]
    if unknown := [name for name in tried if name not in made or (on_ray and not made[name].actor)]:
        fail(f"there is no stage {', '.join(unknown)} for this script")
    needed = {name for tried_name in tried for name in (tried_name, *MADE_FROM.get(tried_name, ()))}
    for name, stage in made.items():
        if name in needed:
            yield stage, name in tried


def run_undisturbed(cluster: Cluster, stage: Stage, folder: Path) -> Any:
    """Run a stage that nothing happens to; returns its result."""
    root = folder / f"{stage.name}-undisturbed"
    stage.prepare(root)
    stage.begin(cluster, root).finish()
    say(f"{stage.name}: finished undisturbed")
    return stage.result(root)


def check_result(stage: Stage, root: Path, expected: Any) -> None:
    """End the script unless the stage is complete and its result is the expected one."""
    check(Workspace(str(root)).report(stage.name) is not None, f"{stage.name} is complete")
    stage.compare(stage.result(root), expected)
    rest = [p.name for p in root.rglob(".*") if p.is_file() and p.name != ".started.json" and ".damaged" not in p.parts]
    check(not rest, "no unfinished file is left")


def _photographs(root: Path) -> dict[str, str]:
    """URL -> the sha256 of the photograph, or why there is none. Each is stored once."""
    rows = Storage(str(root)).read_table("images", ["url", "jpeg"], IMAGES).to_pylist()
    twice = [url for url, count in Counter(row["url"] for row in rows).items() if count > 1]
    check(not twice, f"each of {len(rows)} photographs is stored once")
    return fates(root) | {row["url"]: hashlib.sha256(row["jpeg"]).hexdigest() for row in rows}


def _sides(root: Path) -> dict[str, Any]:
    """image_id -> its row of the split, or why it has none."""
    storage = Storage(str(root))
    rows = storage.read_table(workspace.SPLIT).to_pylist() + storage.read_table(workspace.EXCLUDED).to_pylist()
    return {row["image_id"]: row for row in rows}


def _vectors(root: Path) -> dict[str, np.ndarray]:
    storage = Storage(str(root))
    keys = sorted(storage.read_table(workspace.EMBEDDINGS, ["image_id"])["image_id"].to_pylist())
    check(len(set(keys)) == len(keys), f"each of {len(keys)} photographs has one embedding")
    with open_index(storage) as index:
        found = {
            key: np.array(vector)  # a copy: the file is closed below
            for shard in index.shards
            for key, vector in zip(shard.rows["image_id"].to_pylist(), shard.vectors, strict=True)
        }
        check(sorted(found) == keys and len(index) == len(keys), f"and each is in one of {len(index.shards)} shards")
    return found


def _metrics(root: Path) -> dict[str, float]:
    """All numbers of metrics.json by their path."""

    def numbers(value: Any, path: str) -> dict[str, float]:
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            return {name: n for key, part in items for name, n in numbers(part, f"{path}/{key}").items()}
        return {path: float(value)} if isinstance(value, int | float) else {}

    return numbers(json.loads((root / workspace.EVALUATION).read_text()), "")


def _checksums(root: Path) -> dict[str, str]:
    """File of the current engine -> its sha256."""
    engine = open_engine(str(root))
    check(not engine.find_problems(), f"the engine {engine.info.version} is complete")
    versions = Storage(str(root)).entries(workspace.ENGINES)
    check(len(versions) == 3, "it is the only one")  # with the file `current` and the report
    return {name: file.sha256 for name, file in engine.info.files.items()}


def _are_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    differ = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
    check(not differ, f"all {len(expected)} results are those of the undisturbed run {differ[:3] or ''}".strip())


def _are_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    check(found.keys() == expected.keys(), f"there are the same {len(expected)} results")
    worst = max(float(np.max(np.abs(np.asarray(found[name]) - expected[name]))) for name in expected)
    check(worst < 2e-3, f"they differ by at most {worst:.1e} from those of the undisturbed run")
