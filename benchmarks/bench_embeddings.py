"""How fast are embeddings computed, beside PyTorch in eager mode on the same threads? How does the memory grow?

The claims: ONNX Runtime, as the frozen recipe and `index` use it, computes at least twice as many embeddings per second
of `mobilenet_v3_large` as PyTorch in eager mode, float32, in batches of 16, and 1.5 times as many of `resnet18`. And
`index` needs no more memory for the embeddings of 100,000 photographs than for those of 10,000.

    python benchmarks/bench_embeddings.py [--archs mobilenet_v3_large resnet18] [--rounds 5]     about a minute
    python benchmarks/bench_embeddings.py --memory 10000 100000                                  some minutes

Both sides get the same cropped photographs, normalize them and use one thread. They take turns, so that a change of the
machine's speed meets both. Times are of the processor, which other programs on the machine hardly change. PyTorch is
measured as it comes, and with the memory format and the batch size that suit it best.

The memory is that of a run on Ray with a small network and small photographs, sampled while it goes on: the private
memory of the driver and of the largest actor, and the memory of all processes together with Ray's object store.
"""

import argparse
import copy
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import psutil
import pyarrow as pa
import torch
from PIL import Image

from aitax_ray import schemas, workspace
from aitax_ray.training.backbones import PACKAGED_ARCH, transform_for
from aitax_ray.training.model import Classifier, ClassifierInfo, build_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.workspace import Workspace

NUM = 64  # photographs per turn
BATCH = 16
OTHER_BATCHES = (8, 64)
SMALL_ARCH, SMALL_CROP = "squeezenet1_1", 32
SAMPLE_S = 0.5
Embed = Callable[[np.ndarray], None]


def report(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def ours(classifier: Classifier, transform: EvalTransform) -> Embed:
    """Embed as training.embeddings and index.embed do."""
    session = OnnxClassifier(export_onnx(classifier, transform, unit_length=False), num_threads=1)

    def embed(pixels: np.ndarray) -> None:
        session.outputs(pixels, ["embedding"])

    return embed


def theirs(classifier: Classifier, transform: EvalTransform, batch: int, memory_format: torch.memory_format) -> Embed:
    """Embed with PyTorch, in batches."""
    classifier = copy.deepcopy(classifier).to(memory_format=memory_format)  # `to` changes the classifier itself

    def embed(pixels: np.ndarray) -> None:
        with torch.inference_mode():
            for at in range(0, len(pixels), batch):
                normalized = torch.from_numpy(transform.normalize(pixels[at : at + batch]))
                classifier(normalized.contiguous(memory_format=memory_format))

    return embed


def rate(embed: Embed, pixels: np.ndarray) -> float:
    """Measure the embeddings per second of processor time."""
    begin = time.process_time()
    embed(pixels)
    return len(pixels) / (time.process_time() - begin)


def compare(arch: str, rounds: int) -> None:
    """Measure an architecture at 224 px, and print a line for it."""
    transform = transform_for(arch, 224)
    classifier = build_classifier(arch, 2, 224).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, 224, 224, 3), dtype=np.uint8)
    plain = f"PyTorch, batches of {BATCH}"
    sides = {"ours": ours(classifier, transform), plain: theirs(classifier, transform, BATCH, torch.contiguous_format)}
    for batch in (BATCH, *OTHER_BATCHES):
        sides[f"channels last, batches of {batch}"] = theirs(classifier, transform, batch, torch.channels_last)
    for embed in sides.values():
        embed(pixels[:16])
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, embed in sides.items():
            rates[name].append(rate(embed, pixels))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    mine, others = medians.pop("ours"), medians
    best = max(others, key=lambda name: others[name])
    report(
        f"{arch} at 224 px: ours {mine:.0f} embeddings per second and thread; {plain} {others[plain]:.0f}, "
        f"ratio {mine / others[plain]:.1f}; at best ({best}) {others[best]:.0f}, ratio {mine / others[best]:.1f}"
    )


def write_root(ws: Workspace, num: int) -> None:
    """Write `num` small photographs, their split and a model with random weights."""
    from safetensors.torch import save

    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(100):
        noise = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        noise.resize((40, 40), Image.Resampling.BICUBIC).save(buffer := io.BytesIO(), "JPEG")
        jpegs.append(buffer.getvalue())
    keys = [schemas.image_id(f"https://photos.example/{number}.jpg") for number in range(num)]
    blank = {"string": "", "int32": 0, "float": 1.0}

    def write(path: str, schema: pa.Schema, keys: list[str], **known: list[object]) -> None:
        columns = {
            name: known.get(name) or pa.array([blank.get(str(schema.field(name).type))] * len(keys))
            for name in schema.names
        }
        ws.storage.write_table(path, pa.table(columns | {"image_id": keys}).cast(schema))

    for start in range(0, num, 256):
        part = keys[start : start + 256]
        files: list[object] = [jpegs[number % len(jpegs)] for number in range(start, start + len(part))]
        columns = {"image_id": part, "jpeg": files}
        ws.storage.write_table(f"{workspace.IMAGES}/{start:08}.parquet", pa.table(columns))
    write(workspace.SPLIT, schemas.SPLIT, keys, split=["train"] * num)
    transform = transform_for(SMALL_ARCH, SMALL_CROP)
    classifier = build_classifier(SMALL_ARCH, 2, SMALL_CROP).eval()
    info = ClassifierInfo(
        arch=SMALL_ARCH,
        classes=["a", "b"],
        embedding_size=classifier.embedding_size,
        transform=transform,
        epoch=0,
        versions={},
    )
    ws.storage.write_json(workspace.CLASSIFIER, info.model_dump(mode="json"))
    ws.storage.write_bytes(workspace.WEIGHTS, save(classifier.state_dict()))
    ws.storage.write_bytes(workspace.ONNX, export_onnx(classifier, transform))


def embed_all(root: str) -> None:
    """Compute the embeddings of a root as `index` does."""
    from aitax_ray.index.embed import embed
    from aitax_ray.index.settings import IndexSettings
    from aitax_ray.training.feed import read_labels

    ws = Workspace(root)
    embeddings = embed(ws, IndexSettings(root=root), read_labels(ws, "train"))
    report(str(sum(table.num_rows for table in embeddings.batches(["image_id"]))))


def measure_memory(num: int) -> None:
    """Run in another process, watch its memory, and print a line."""
    with tempfile.TemporaryDirectory() as folder:
        write_root(Workspace(folder), num)
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, __file__, "--root", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        peaks = {"driver": 0, "actor": 0, "all": 0}
        while process.poll() is None:
            found = {"driver": 0, "actor": 0, "all": 0}
            for one in tree(process.pid):
                try:
                    name, memory = one.name(), one.memory_full_info()
                except (psutil.NoSuchProcess, psutil.AccessDenied):  # it may end at any moment
                    continue
                part = "driver" if one.pid == process.pid else "actor" if name.startswith("ray::MapWork") else ""
                if part:
                    found[part] = max(found[part], memory.uss)
                found["all"] += memory.pss
            peaks = {part: max(peaks[part], found[part]) for part in peaks}
            time.sleep(SAMPLE_S)
        assert process.stdout is not None
        written = process.stdout.read().strip()
        seconds = time.monotonic() - begin
    shown = ", ".join(f"{part} {peak / 1e6:.0f} MB" for part, peak in peaks.items())
    report(f"{written} embeddings of {num:,} photographs in {seconds:.0f} s: {shown}")


def tree(pid: int) -> list[psutil.Process]:
    """List a process and all below it; none if it has ended."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def main() -> None:
    """Measure the speed of each architecture, or the memory for each number of photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=[PACKAGED_ARCH, "resnet18", "mobilenet_v3_large"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", nargs="+", type=int, help="numbers of photographs")
    parser.add_argument("--root", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.root:
        embed_all(given.root)
    elif given.memory:
        for num in given.memory:
            measure_memory(num)
    else:
        for arch in given.archs:
            compare(arch, given.rounds)


if __name__ == "__main__":
    main()
