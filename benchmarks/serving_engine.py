"""Makes an engine of any size for `bench_serving.py`, with a network of random weights: speed needs no knowledge.

The index has as many photographs as asked for, around the embeddings which the network gives to generated photographs,
so that a search finds neighbours as in a real engine.

    python benchmarks/serving_engine.py FOLDER [--species 1000] [--photographs 50000] [--arch mobilenet_v3_large]
"""

import argparse
import io
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_retrieval import rows
from PIL import Image

from aitax_ray import schemas
from aitax_ray.engine import bundle
from aitax_ray.engine.info import FORMAT_VERSION
from aitax_ray.evaluation.conformal import Candidates
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.index.shards import write_shard
from aitax_ray.storage import Storage
from aitax_ray.training.backbones import transform_for
from aitax_ray.training.model import build_classifier
from aitax_ray.training.onnx import export_onnx
from aitax_ray.training.onnx_classifier import OnnxClassifier

CROP = 224
SPREAD = 0.3  # of the embeddings around a species' mean, beside a mean of length 1
CANDIDATE_SCORE = 0.01  # of the last candidate: without a limit all species would be candidates
LOGITS = 16.0  # standard deviation of the logits: an answer lists about seven species


def thumbnail() -> bytes:
    """Make a small picture."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC).save(buffer := io.BytesIO(), "WebP")
    return buffer.getvalue()


def make_classifier(arch: str, num_species: int) -> torch.nn.Module:
    """Build the network. Its logits have the standard deviation LOGITS between species."""
    torch.manual_seed(0)
    classifier = build_classifier(arch, num_species, CROP).eval()
    with torch.inference_mode():
        embedding = classifier.backbone(torch.randn(8, 3, CROP, CROP))
        classifier.head.weight.mul_(LOGITS / (embedding @ classifier.head.weight.T).std(dim=1).mean())
    return classifier


def write_engine(folder: Path, num_species: int, num_photographs: int, arch: str) -> None:
    """Write the engine."""
    transform = transform_for(arch, CROP)
    onnx = export_onnx(make_classifier(arch, num_species), transform)
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (32, CROP, CROP, 3), dtype=np.uint8)
    base = OnnxClassifier(onnx).outputs(noise, ["embedding"])[0].mean(axis=0)
    classes = np.sort(rng.integers(0, num_species, num_photographs))
    means = base + SPREAD * rng.normal(size=(num_species, len(base))).astype(np.float32) / len(base) ** 0.5
    vectors = means[classes]
    vectors += SPREAD * rng.standard_normal(vectors.shape, np.float32) / len(base) ** 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys, small = [str(2_000_000 + number) for number in range(num_species)], thumbnail()
    index = rows(np.arange(num_photographs), classes)
    lengths = {"thumbnail_offset": np.zeros(num_photographs, np.int64), "thumbnail_length": len(small)}
    for name, values in lengths.items():
        place = index.schema.get_field_index(name)
        column = pa.array(np.broadcast_to(values, num_photographs), index.schema.field(name).type)
        index = index.set_column(place, index.schema.field(name), column)
    taxa = {
        name: pa.array(keys if name == "species_key" else [blank(field)] * num_species, field.type)
        for name, field in zip(schemas.TAXA.names, schemas.TAXA, strict=True)
    }
    taxa |= {
        "name": pa.array([f"Genus{number // 5} species{number}" for number in range(num_species)]),
        "genus": pa.array([f"Genus{number // 5}" for number in range(num_species)]),
        "family": pa.array([f"Family{number // 50}idae" for number in range(num_species)]),
    }
    pq.write_table(pa.table(taxa).cast(schemas.TAXA), sink := pa.BufferOutputStream())
    pq.write_table(schemas.ANSWERS.empty_table(), answers := pa.BufferOutputStream())
    with tempfile.TemporaryDirectory() as shard:
        write_shard(Path(shard), index, vectors)
        (Path(shard) / "thumbnails.bin").write_bytes(small)
        files: dict[str, bytes | str] = {
            f"{bundle.SHARDS}/00000/{path.relative_to(shard)}": path.read_bytes()
            for path in sorted(Path(shard).rglob("*"))
            if path.is_file()
        }
    files |= {bundle.ONNX: onnx, bundle.TAXA: bytes(sink.getvalue()), bundle.ANSWERS: bytes(answers.getvalue())}
    info = {
        "format_version": FORMAT_VERSION,
        "version": "benchmark-1",
        "created": datetime.now(UTC),
        "arch": arch,
        "transform": transform,
        "classes": keys,
        "names": pa.table(taxa)["name"].to_pylist(),
        "embedding_size": len(base),
        "decisions": Decisions(candidates=Candidates(limit=(CANDIDATE_SCORE,))),
        "thresholds": {"min_score": 0.005, "max_total_score": 0.99},
        "num_indexed": num_photographs,
        "doi": None,
        "citation": None,
        "checklist_key": None,
        "metrics": {},
        "versions": {},
    }
    bundle.write_bundle(Storage(str(folder.parent)), folder.name, files, info)


def blank(field: pa.Field) -> object:
    """Give an empty value of a field's type."""
    if pa.types.is_string(field.type):
        return ""
    return [] if pa.types.is_list(field.type) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--species", type=int, default=1000)
    parser.add_argument("--photographs", type=int, default=50_000)
    parser.add_argument("--arch", default="mobilenet_v3_large")
    options = parser.parse_args()
    write_engine(options.folder.resolve(), options.species, options.photographs, options.arch)
