"""How fast does training go, beside a plain script of PyTorch, and beside a network that never waits for photographs?

The claim: fine-tuning `mobilenet_v3_small` at 224 px on two cores, `aitax train` learns from at least 1.2 times as many
photographs per second as a plain script with ImageFolder, DataLoader and DDP in two processes (plain_training.py), and
from at least 85 % of what the same loop reaches when it is fed with one constant tensor. Both sides have the same
stored JPEGs, network, batch and augmentation, and compute in float32. They take turns; a median over rounds counts. The
plain script runs with several numbers of loader processes, of which the best counts.

    python benchmarks/bench_training.py                                         some minutes
    python benchmarks/bench_training.py --stream --numbers 5000 50000           growth, in the stream
    python benchmarks/bench_training.py --gpu resnet50 timm/convnext_tiny --numbers 10000

With --stream the photographs are not held in memory. Then the time per photograph and the memory of a worker are
printed for each number of photographs. With --gpu these networks train on the GPUs, in the number format that is
fastest there, beside the network alone on one of them: this shows how many cores must load photographs. Generated
photographs of 683 x 512 px stand for real ones: their JPEGs have the size of real ones.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
from PIL import Image, ImageFilter

from aitax_ray import schemas, workspace
from aitax_ray.settings import StageSettings
from aitax_ray.training import distributed
from aitax_ray.training.build import make_learner
from aitax_ray.training.execution import Execution, choose_execution
from aitax_ray.training.history import read_history
from aitax_ray.training.loop import Batch, Learner
from aitax_ray.training.model import build_classifier
from aitax_ray.training.settings import TrainSettings
from aitax_ray.training.train import train
from aitax_ray.workspace import Outcome, Workspace

ARCH, CROP, BATCH, SPECIES = "mobilenet_v3_small", 224, 64, 10
GPU_BATCH = 256
DISTINCT = 500  # photographs that are drawn; more are copies of these under other names
PLAIN = Path(__file__).with_name("plain_training.py")


def draw_jpegs(num: int) -> list[bytes]:
    """Draw photographs: noise of several sizes, so that a JPEG has some 60 KB."""
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(num):
        layers = [
            Image.fromarray(rng.integers(0, 256, (side, side * 4 // 3, 3), dtype=np.uint8)) for side in (6, 40, 300)
        ]
        coarse, middle, fine = (layer.resize((683, 512), Image.Resampling.BICUBIC) for layer in layers)
        image = Image.blend(Image.blend(coarse, middle, 0.4), fine, 0.12).filter(ImageFilter.SMOOTH)
        image.save(buffer := io.BytesIO(), "JPEG", quality=85)
        jpegs.append(buffer.getvalue())
    return jpegs


def write_root(root: Path, jpegs: list[bytes], num: int) -> Workspace:
    """Write what the stages before training write, for `num` photographs of SPECIES species."""
    ws = Workspace(str(root))
    keys = [schemas.image_id(f"https://photos.example/{n}.jpg") for n in range(num)]

    def complete(stage: str, tables: dict[str, Iterator[dict[str, Any]]], schema: pa.Schema) -> None:
        def write() -> Outcome:
            for path, rows in tables.items():
                ws.storage.write_table(path, pa.Table.from_pylist(list(rows), schema))
            return Outcome()

        ws.run(stage, StageSettings(root=ws.root), (), write)

    complete("manifest", {}, schemas.MEDIA)
    complete(
        "download",
        {
            f"{workspace.IMAGES}/{at:07}.parquet": (
                {"image_id": keys[n], "jpeg": jpegs[n % len(jpegs)]} for n in range(at, min(at + 1000, num))
            )
            for at in range(0, num, 1000)
        },
        schemas.IMAGES,
    )
    split = (
        {"image_id": key, "species_key": str(n % SPECIES), "class_index": n % SPECIES, "split": "train", "weight": 1.0}
        for n, key in enumerate(keys)
    )
    complete("split", {workspace.SPLIT: split}, schemas.SPLIT)
    return ws


def write_folder(folder: Path, jpegs: list[bytes], num: int) -> None:
    """Write the same photographs for ImageFolder."""
    for n in range(num):
        path = folder / f"species{n % SPECIES}" / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpegs[n % len(jpegs)])


def settings_of(root: str, epochs: int) -> TrainSettings:
    """The settings of our side."""
    given = {"root": root, "force": True, "recipe": "from-scratch", "arch": ARCH, "crop_size": CROP, "epochs": epochs}
    same = {"batch_size": BATCH, "lr": 1e-3, "augment": "light", "random_erasing": 0, "ema": 0, "final_epochs": 0}
    return TrainSettings.model_validate(given | same | {"long_tail": "none", "precision": "float32", "compile": "no"})


def ours(root: Path, epochs: int) -> tuple[float, float]:
    """Train; the photographs per second, and the share of the time that a worker waited for them (medians)."""
    ws = Workspace(str(root))
    train(settings_of(ws.root, epochs))
    rows = read_history(ws.storage)[1:]
    return tuple(statistics.median(row[name] for row in rows) for name in ("images_per_s", "wait_share"))  # type: ignore[return-value]


def plain(folder: Path, epochs: int, loaders: int) -> float:
    """Photographs per second of the plain script."""
    command = [sys.executable, str(PLAIN), str(folder), ARCH, str(CROP), str(BATCH), str(epochs), str(loaders)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def learn_from_a_constant(rank: int, steps: int, store: str, path: str) -> None:
    """Our loop in one of two processes, fed with one tensor; the first process writes the photographs per second."""
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
    torch.manual_seed(0)
    half = BATCH // 2
    batch = Batch(torch.randn(half, 3, CROP, CROP), torch.randint(0, SPECIES, (half,)), torch.ones(half))
    batch = batch._replace(pixels=batch.pixels.contiguous(memory_format=torch.channels_last))
    learner: Learner = make_learner(
        settings_of("unused", 1), 1e-3, [1] * SPECIES, build_classifier(ARCH, SPECIES, CROP),
        torch.nn.parallel.DistributedDataParallel, Execution(),
    )  # fmt: skip
    learner.train_epoch([batch] * 5, 0, 5)
    figures = learner.train_epoch([batch] * steps, 0, steps)
    if rank == 0:
        Path(path).write_text(str(figures["images_per_s"]))
    torch.distributed.destroy_process_group()


def constant(num: int) -> float:
    """Photographs per second when the network never waits."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rate"
        torch.multiprocessing.spawn(learn_from_a_constant, (num // BATCH, f"{folder}/store", path), nprocs=2)
        return float(Path(path).read_text())


def gpu_settings(root: str, arch: str, epochs: int) -> TrainSettings:
    """The settings on GPUs."""
    given = {"root": root, "force": True, "recipe": "from-scratch", "arch": arch, "crop_size": CROP, "epochs": epochs}
    return TrainSettings.model_validate(given | {"batch_size": GPU_BATCH, "compile": "no", "final_epochs": 0})


def constant_on_gpu(arch: str, steps: int = 30) -> float:
    """Photographs per second of the network on one GPU, fed with one tensor."""
    settings, classifier = gpu_settings("unused", arch, 1), build_classifier(arch, SPECIES, CROP).cuda()
    way = choose_execution(classifier, settings, CROP, GPU_BATCH, 0, None)
    learner = make_learner(settings, 1e-3, [1] * SPECIES, classifier, lambda network: network, way)
    classes, weights = torch.randint(0, SPECIES, (GPU_BATCH,)), torch.ones(GPU_BATCH)
    batch = Batch(torch.randn(GPU_BATCH, 3, CROP, CROP).cuda(), classes.cuda(), weights.cuda())
    learner.train_epoch([batch] * 5, 0, 5)
    return float(learner.train_epoch([batch] * steps, 0, steps)["images_per_s"])


def compare_on_gpus(jpegs: list[bytes], num: int, epochs: int, archs: list[str]) -> None:
    """Measure the training of each network, and its network alone."""
    print(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {os.cpu_count()} cores")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        ws = write_root(Path(folder, "root"), jpegs, num)
        for arch in archs:
            alone = constant_on_gpu(arch)
            torch.cuda.empty_cache()
            train(gpu_settings(ws.root, arch, epochs))
            rows = read_history(ws.storage)[1:]
            rate, waited = (statistics.median(row[name] for row in rows) for name in ("images_per_s", "wait_share"))
            print(  # noqa: T201
                f"{arch}: {rate:.0f} photographs/s, {waited:.0%} of the time waited; the network alone {alone:.0f}"
            )


class PeakMemory:
    """The peak of the unique memory (USS) of Ray's training workers, MB."""

    def __enter__(self) -> "PeakMemory":
        self.megabytes, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        self.megabytes = max(self.megabytes, process.memory_full_info().uss / 1e6)
                except psutil.Error:
                    continue

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def compare(jpegs: list[bytes], num: int, epochs: int, rounds: int) -> None:
    """Measure all three sides in turns."""
    with tempfile.TemporaryDirectory() as folder:
        write_root(Path(folder, "root"), jpegs, num)
        write_folder(Path(folder, "plain"), jpegs, num)
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            for loaders in (0, 1, 2):
                rates.setdefault(f"plain script, {loaders} loaders per process", []).append(
                    plain(Path(folder, "plain"), epochs, loaders)
                )
            rates.setdefault("constant tensor", []).append(constant(num))
            rate, waited = ours(Path(folder, "root"), epochs)
            rates.setdefault("ours", []).append(rate)
            print(f"ours {rate:.1f} photographs/s, of which {waited:.1%} of the time waited")  # noqa: T201
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        print(f"{name}: {rate:.1f} photographs/s")  # noqa: T201
    peer = max(rate for name, rate in medians.items() if name.startswith("plain"))
    print(f"ours to the plain script: {medians['ours'] / peer:.2f}")  # noqa: T201
    print(f"ours to the constant tensor: {medians['ours'] / medians['constant tensor']:.2f}")  # noqa: T201


def grow(jpegs: list[bytes], numbers: list[int]) -> None:
    """Measure our side in the stream for each number of photographs."""
    distributed.fits_in_memory = lambda *_: False
    for num in numbers:
        with tempfile.TemporaryDirectory() as folder, PeakMemory() as peak:
            write_root(Path(folder), jpegs, num)
            begin = time.perf_counter()
            rate, waited = ours(Path(folder), 2)
            print(  # noqa: T201
                f"{num:,} photographs in the stream: {1000 / rate:.1f} ms per photograph, {waited:.1%} of the time "
                f"waited, {peak.megabytes:.0f} MB per worker at most, {time.perf_counter() - begin:.0f} s in all"
            )


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=[1500])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--gpu", nargs="+", metavar="ARCH", help="train these networks on the GPUs")
    given = parser.parse_args()
    jpegs = draw_jpegs(DISTINCT)
    print(f"JPEGs of {np.mean([len(jpeg) for jpeg in jpegs]) / 1e3:.0f} KB")  # noqa: T201
    if given.gpu:
        compare_on_gpus(jpegs, given.numbers[0], given.epochs, given.gpu)
    elif given.stream:
        grow(jpegs, given.numbers)
    else:
        compare(jpegs, given.numbers[0], given.epochs, given.rounds)


if __name__ == "__main__":
    main()
