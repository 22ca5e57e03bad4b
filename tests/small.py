"""A tiny root as the stages before training leave it, written by hand: no network, no Ray.

Three species of plainly different photographs. Where a trained model is needed, `trained` has one; where any model
does, `write_model` writes one that has learned nothing.
"""

import contextlib
import copy
import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.schemas import image_id
from aitax_ray.settings import StageSettings
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row

# species_key -> (name, colour)
SPECIES = {
    "7K3": ("Rana alba", (215, 205, 190)),
    "A12": ("Rana rubra", (200, 45, 35)),
    "Z9": ("Hyla viridis", (40, 150, 60)),
}
FAMILIES = {"Rana": "Ranidae", "Hyla": "Hylidae"}
KEYS = sorted(SPECIES)
ARCH = "squeezenet1_1"  # learns them in a few steps
CROP = 32
EPOCHS = 5
# Sides of the photographs of each species, two photographs an occurrence.
SIDES = ("train",) * 8 + ("val",) * 4 + ("test",) * 4


def photo(species_key: str, number: int, size: tuple[int, int] = (56, 44)) -> Image.Image:
    """Draw a photograph: the colour of its species with noise, and a dark spot somewhere."""
    rng = np.random.default_rng([KEYS.index(species_key), number])
    pixels = rng.normal(SPECIES[species_key][1], 25, (size[1], size[0], 3))
    top, left = rng.integers(0, size[1] - 10), rng.integers(0, size[0] - 10)
    pixels[top : top + 10, left : left + 10] *= 0.3
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
    """A photograph's file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_root(root: Path, sides: Sequence[str] | dict[str, Sequence[str]] = SIDES, first: int = 0) -> Workspace:
    """Write the artifacts of manifest, download and split, with the rows of each table in another order.

    `sides` holds a side per photograph, for all species or by species_key. Photographs are numbered from `first` on.
    """
    ws = Workspace(str(root))
    rng = np.random.default_rng(0)
    rows = [
        {
            "image_id": image_id(f"https://photos.example/{key}/{number}.jpg"),
            "url": f"https://photos.example/{key}/{number}.jpg",
            "gbif_id": f"{key}-{number // 2}",
            "species_key": key,
            "class_index": KEYS.index(key),
            "split": side,
            "trust": "unknown",
            "weight": 1.0,
            "creator": f"Author of {key}/{number}",
            "jpeg": jpeg(photo(key, number)),
            "width": 56,
            "height": 44,
        }
        for key in KEYS
        for number, side in enumerate(sides.get(key, ()) if isinstance(sides, dict) else sides, first)
    ]

    def table(schema: pa.Schema, part: slice = slice(None)) -> pa.Table:
        shuffled = [rows[place] for place in rng.permutation(len(rows))] if part == slice(None) else rows[part]
        known = [{name: row[name] for name in schema.names if name in row} for row in shuffled]
        return pa.Table.from_pylist([blank_row(schema, **row) for row in known], schema)

    def manifest() -> None:
        taxa = [
            {
                "species_key": key,
                "name": SPECIES[key][0],
                "genus": SPECIES[key][0].split()[0],
                "family": FAMILIES[SPECIES[key][0].split()[0]],
                "num_images": 0,
                "num_occurrences": 0,
            }
            for key in KEYS
        ]
        ws.storage.write_table(
            workspace.TAXA, pa.Table.from_pylist([blank_row(schemas.TAXA, **t) for t in taxa], schemas.TAXA)
        )
        ws.storage.write_table(f"{workspace.MEDIA}/part-00000.parquet", table(schemas.MEDIA))
        seen = {row["gbif_id"]: {"gbif_id": row["gbif_id"], "species_key": row["species_key"]} for row in rows}
        occurrences = [blank_row(schemas.OCCURRENCES, **row) for row in seen.values()]
        ws.storage.write_table(workspace.OCCURRENCES, pa.Table.from_pylist(occurrences, schemas.OCCURRENCES))
        ws.storage.write_json(workspace.QUERY, {"doi": "10.15468/dl.sma11", "citation": ""})

    def download() -> None:
        ws.storage.write_table("images/a.parquet", table(schemas.IMAGES, slice(0, None, 2)))
        if len(rows) > 1:
            ws.storage.write_table("images/b.parquet", table(schemas.IMAGES, slice(1, None, 2)))

    def split() -> None:
        ws.storage.write_table(workspace.SPLIT, table(schemas.SPLIT))
        ws.storage.write_table(workspace.EXCLUDED, schemas.EXCLUDED.empty_table())

    for stage in (manifest, download, split):
        complete(ws, stage.__name__, stage)
    return ws


def complete(ws: Workspace, stage: str, work: Callable[[], None]) -> None:
    """Do a stage's work and mark it complete."""

    def outcome() -> Outcome:
        work()
        return Outcome()

    ws.run(stage, StageSettings(root=ws.root, force=True), (), outcome)


def write_model(
    ws: Workspace, arch: str = ARCH, crop_size: int = CROP, seed: int = 0, *, onnx: bool = False, head: Any = "linear"
) -> Any:
    """Write a model that has learned nothing, with its export if `onnx` (it takes seconds); returns its classifier."""
    import torch

    from aitax_ray.training import train
    from aitax_ray.training.curves import draw_curves
    from aitax_ray.training.model import build_classifier

    torch.manual_seed(seed)
    classifier = build_classifier(arch, len(KEYS), crop_size, head).eval()

    def write() -> None:
        train._write_model(ws, describe(classifier, arch, crop_size), classifier)
        if onnx:
            train._write_onnx(ws, describe(classifier, arch, crop_size), classifier)
        ws.storage.write_bytes("model/curves.png", draw_curves([{"epoch": 1, "train_loss": 1.0}]))

    complete(ws, "train", write)
    return classifier


def describe(classifier: Any, arch: str, crop_size: int, epoch: int = 1, classes: Sequence[str] = KEYS) -> Any:
    """Describe the weights of a classifier."""
    from aitax_ray.training.backbones import transform_for
    from aitax_ray.training.model import ClassifierInfo, PrototypeHead

    return ClassifierInfo(
        arch=arch,
        head="prototype" if isinstance(classifier.head, PrototypeHead) else "linear",
        classes=list(classes),
        embedding_size=classifier.embedding_size,
        transform=transform_for(arch, crop_size),
        epoch=epoch,
        versions={},
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread: with tensors as small as those of the tests, several are slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trained(folders: pytest.TempPathFactory) -> Path:
    """A root with a model that has learned its species, made once a session without Ray. Copy it before you write."""
    root = folders.getbasetemp() / "trained"
    if not root.exists():
        ws = write_root(root)
        complete(ws, "train", lambda: learn(ws))
    return root


def trained_on_two(folders: pytest.TempPathFactory) -> Path:
    """The same without the last species."""
    root = folders.getbasetemp() / "trained-on-two"
    if not root.exists():
        ws = write_root(root, dict.fromkeys(KEYS[:2], SIDES))
        complete(ws, "train", lambda: learn(ws))
    return root


def learn(ws: Workspace) -> None:
    """Train as the stage does, in this process and alone, and write the model of the best epoch."""
    import torch

    from aitax_ray.training import train
    from aitax_ray.training.backbones import transform_for
    from aitax_ray.training.batches import FromMemory
    from aitax_ray.training.best import selection
    from aitax_ray.training.curves import draw_curves
    from aitax_ray.training.feed import decode_for_evaluation, decode_for_training, read_classes, read_labels
    from aitax_ray.training.model import build_classifier
    from aitax_ray.training.worker import Place, run_epochs

    settings, transform = train_settings(ws.root), transform_for(ARCH, CROP)
    stored = ws.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"])
    pixels = decode_for_training(read_labels(ws, "train")(stored), 40)
    val_pixels = decode_for_evaluation(read_labels(ws, "val")(stored), transform)
    config = {
        "root": ws.root,
        "settings": settings.model_dump(),
        "lr": settings.learning_rate(),
        "transform": transform.model_dump(),
        "frequencies": read_classes(ws)[1],
    }
    states: list[tuple[float, dict[str, Any]]] = []
    torch.manual_seed(settings.seed)
    classes = read_classes(ws)[0]
    classifier = build_classifier(ARCH, len(classes), CROP)
    with one_thread():
        run_epochs(
            config,
            Place(rank=0, world=1, local_world=os.cpu_count() or 1, device=torch.device("cpu")),
            FromMemory(pixels, settings.batch_size, 0, 1, settings.seed),
            FromMemory(val_pixels, settings.batch_size, 0, 1, settings.seed),
            classifier.state_dict(),
            None,
            lambda state, row: states.append((selection(row), copy.deepcopy(state))),
            lambda classifier: classifier,
        )
    _, best = max(states, key=lambda pair: pair[0])
    classifier.load_state_dict(best["model"])
    train._write_model(ws, describe(classifier, ARCH, CROP, best["epoch"], classes), classifier)
    ws.storage.write_bytes("model/curves.png", draw_curves(states[-1][1]["history"]))


class PredictedHere:
    """Stands for training.inference.predictions where Ray does not matter: predicts in this process, in one batch."""

    def __init__(
        self,
        ws: Workspace,
        labels: Any,
        settings: Any,
        predictor: Any,
        decode: Any = None,
        source: Workspace | None = None,
    ) -> None:
        self._ws, self._labels, self._predictor, self._decode = ws, labels, predictor, decode
        self._source = source or ws
        self._num_rows: int | None = None
        self._work: list[Callable[[pa.Table], pa.Table]] = []

    def repartition(self, target_num_rows_per_block: int, strict: bool) -> "PredictedHere":
        assert strict  # otherwise Ray joins no blocks
        self._num_rows = target_num_rows_per_block
        return self

    def map_batches(self, work: Callable[[pa.Table], pa.Table], **_: object) -> "PredictedHere":
        self._work.append(work)
        return self

    def iter_batches(self, **_: object) -> Iterator[pa.Table]:
        from aitax_ray.training.feed import decode_for_evaluation

        rows = self._labels(self._source.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"]))
        with one_thread():
            predictor = self._predictor(self._ws.root)
            decode = self._decode or functools.partial(decode_for_evaluation, transform=predictor.info.transform)
            predicted = predictor(decode(rows))
        for start in range(0, predicted.num_rows, self._num_rows or predicted.num_rows):
            batch = predicted.slice(start, self._num_rows)
            for work in self._work:
                batch = work(batch)
            yield batch


def write_index(ws: Workspace, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Index the training photographs in this process."""
    from aitax_ray.index import embed, index
    from aitax_ray.index.settings import IndexSettings
    from aitax_ray.index.thumbnails import open_thumbnails, write_thumbnails

    def make_thumbnails(ws: Workspace, labels: Any, size: int) -> None:
        rows = labels(ws.storage.read_table(workspace.IMAGES, ["image_id", "jpeg"]))
        write_thumbnails(rows, open_thumbnails(ws.storage, size), size)

    monkeypatch.setattr(embed, "predictions", PredictedHere)
    monkeypatch.setattr(index, "make_thumbnails", make_thumbnails)
    index.index(IndexSettings.model_validate({"root": ws.root, "thumbnails": False} | settings))


def train_settings(root: Path | str, **changes: object) -> Any:
    """Settings of a short training run."""
    from aitax_ray.training.settings import TrainSettings

    short = {"recipe": "from-scratch", "arch": ARCH, "crop_size": CROP, "epochs": EPOCHS, "batch_size": 8, "lr": 1e-3}
    short |= {"ema": 0, "augment": "light", "random_erasing": 0, "final_epochs": 0}
    short |= {"precision": "float32", "compile": "no"}
    return TrainSettings.model_validate({"root": str(root), **short, "cpus_per_worker": 0.5, **changes})
