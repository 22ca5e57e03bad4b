"""A small engine without training: it names photographs by their colour. Red, green and blue are its species."""

import hashlib
import io
import itertools
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from PIL import Image

from aitax_ray import schemas
from aitax_ray.engine import bundle, documents
from aitax_ray.engine.info import ENGINES, FORMAT_VERSION, INFO, write_current
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.shards import ROWS, THUMBNAILS, Shard, write_shard
from aitax_ray.storage import Storage
from aitax_ray.training.transforms import EvalTransform
from tests.blank import blank_row

COLOURS = {"11": (220, 30, 30), "22": (30, 220, 30), "33": (30, 30, 220)}
NAMES = {"11": "Ruber primus", "22": "Viridis secundus", "33": "Caeruleus tertius"}
TRANSFORM = EvalTransform(crop_size=8, resize_size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
IMAGES_PER_SPECIES = 4
SIZE = 8  # shorter side of decoded photographs, px
# A page as `split` and `evaluate` write them: with its own style, with plots inside, in one file.
PLOT = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="
PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    "<style>h1 {{color: rgb(1, 2, 3)}}</style>"
    f'<h1>{{title}}</h1><img src="{PLOT}" alt="A plot"></html>'
)


def photo(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), form: str = "PNG") -> bytes:
    """A photograph of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return buffer.getvalue()


def colour_classifier(factor: float = 5.0) -> bytes:
    """ONNX: the logits are `factor` times the mean colour, from -1 to 1; the embedding is the same at unit length."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["colour"]),
        helper.make_node("LpNormalization", ["colour"], ["embedding"], axis=1, p=2),
        helper.make_node("Mul", ["colour", "factor"], ["logits"]),
    ]
    numbers = {"half": 127.5, "one": 1.0, "factor": factor}
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("embedding", "logits")],
        [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_small_engine(folder: Path, **changes: Any) -> Path:
    """Write the engine into `folder`, and return the folder. `changes` are fields of its engine.json."""
    taxa = [
        blank_row(schemas.TAXA)
        | {
            "species_key": key,
            "name": NAMES[key],
            "scientific_name": f"{NAMES[key]} L.",
            "authorship": "L.",
            "rank": "SPECIES",
            "vernacular_name": f"the {NAMES[key].split()[0].lower()} one",
            "vernacular_names": [{"language": "fra", "name": "le rouge"}] if key == "11" else [],
            "genus": NAMES[key].split()[0],
            "family": "Coloridae",
            "num_occurrences": 2,
            "num_images": IMAGES_PER_SPECIES,
        }
        for key in COLOURS
    ]
    rows, embeddings, thumbnails = [], [], list[bytes]()
    for class_index, (key, colour) in enumerate(COLOURS.items()):
        for number in range(IMAGES_PER_SPECIES):
            url = f"https://photos.example/{key}/{number}.jpg"
            rows.append(
                blank_row(schemas.INDEX_ROWS)
                | {
                    "image_id": schemas.image_id(url),
                    "species_key": key,
                    "class_index": class_index,
                    "gbif_id": f"{key}0{number}",
                    "url": url,
                    "is_at_gbif": True,
                    "license": "http://creativecommons.org/licenses/by/4.0/",
                    "license_id": "CC-BY-4.0",
                    "creator": f"author {number}",
                    "rights_holder": "" if number == 0 else f"holder {number}",
                    "publisher": "Colour Society",
                    "split": "train",
                    "event_date": f"2023-05-0{number + 1}T10:00:00" if number else "",
                    "is_shown": True,
                    "thumbnail_offset": sum(map(len, thumbnails)),
                    "thumbnail_length": len(thumbnail(colour, number)),
                }
            )
            thumbnails.append(thumbnail(colour, number))
            # Each next photograph is a little grayer, so less similar to the pure colour.
            shade = np.array(colour, np.float32) / 127.5 - 1 + 0.2 * number
            embeddings.append(shade / np.linalg.norm(shade))
    index = folder.parent / "index-of-engine"
    write_shard(index, pa.Table.from_pylist(rows, schemas.INDEX_ROWS), np.stack(embeddings))
    # Two engines of the same content are equal file for file, also where one was built faster.
    info = SearchInfo.read(index)
    times = {"queries_per_second": 1000.0, "build_s": 1.0}
    info.model_copy(update={"measured": info.measured.model_copy(update=times)}).write(index)
    (index / "thumbnails.bin").write_bytes(b"".join(thumbnails))
    files: dict[str, bytes | str] = {
        bundle.ONNX: colour_classifier(),
        bundle.TAXA: _parquet(taxa, schemas.TAXA),
        bundle.ANSWERS: _parquet([], schemas.ANSWERS),
        documents.DATA_CARD: PAGE.format(title="Data card").encode(),
        documents.REPORT: PAGE.format(title="How good is the engine?").encode(),
        documents.MODEL_CARD: b"# Model card: colours\n",
        documents.PER_SPECIES: _parquet(_figures(), schemas.PER_SPECIES),
    }
    for file in sorted(path for path in index.rglob("*") if path.is_file()):
        files[f"{bundle.SHARDS}/00000/{file.relative_to(index)}"] = file.read_bytes()
    info: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "version": "colours-1",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "arch": "colours",
        "transform": TRANSFORM,
        "classes": list(COLOURS),
        "names": [NAMES[key] for key in COLOURS],
        "embedding_size": 3,
        "decisions": Decisions(),
        "thresholds": {"min_score": 0.005, "max_total_score": 0.99},
        "num_indexed": len(rows),
        "doi": "10.15468/dl.colour",
        "citation": None,
        "checklist_key": None,
        "caveats": ["Photographs of eggs are rare."],
        "metrics": {"top1": 1.0},
        "versions": {},
    }
    bundle.write_bundle(Storage(str(folder.parent)), folder.name, files, info | changes)
    return folder


def _figures() -> list[dict[str, Any]]:
    """Figures of all species but the last: the first was tested, the second was not."""
    rows = [
        blank_row(schemas.PER_SPECIES)
        | {"species_key": key, "class_index": place, "name": NAMES[key], "num_train_images": 10 * (place + 1)}
        | {"num_images": 4 if place == 0 else 0, "top1": 0.75 if place == 0 else None}
        for place, key in enumerate(COLOURS)
    ]
    return rows[:-1]


def thumbnail(colour: tuple[int, int, int], number: int) -> bytes:
    """The thumbnail of a photograph of a species."""
    buffer = io.BytesIO()
    Image.new("RGB", (16 + number, 12), colour).save(buffer, "WebP")
    return buffer.getvalue()


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return bytes(sink.getvalue())


def describe_again(folder: Path, **changes: Any) -> None:
    """Write engine.json anew, with the sizes and checksums of the files as they are now, as somebody might by hand."""
    content = json.loads((folder / INFO).read_text(encoding="utf-8")) | changes
    for name in content["files"]:
        data = (folder / name).read_bytes()
        content["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / INFO).write_text(json.dumps(content), encoding="utf-8")


def divide_index(folder: Path, *ends: int) -> None:
    """Divide the shard of an engine into several, which end before these rows, and describe the engine anew."""
    place, one = folder / bundle.SHARDS, Shard(folder / bundle.SHARDS / "00000")
    rows, vectors, thumbnails = one.rows, np.array(one.vectors), one.thumbnails.tobytes()
    shutil.rmtree(place)
    for number, (start, end) in enumerate(itertools.pairwise([0, *ends, len(rows)])):
        write_shard(place / f"{number:05}", rows.slice(start, end - start), vectors[start:end])
        (place / f"{number:05}" / THUMBNAILS).write_bytes(thumbnails)  # the offsets stay
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    describe_again(folder, files=dict.fromkeys(name for name in names if name != INFO))


def rewrite_rows(folder: Path, **columns: list[Any]) -> None:
    """Replace columns of the rows of an engine's first shard, and describe the engine anew."""
    path = folder / bundle.SHARDS / "00000" / ROWS
    with pa.OSFile(str(path)) as source:
        rows = pa.ipc.open_file(source).read_all()
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    describe_again(folder)


def write_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a root with two engines, 1 and 2, that have no species and no score in common. The first is current."""
    write_small_engine(root / "made" / "engine", version="1").rename(root / "made" / "1")
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.COLOURS", {f"4{key}": colour for key, colour in COLOURS.items()})
        patch.setattr(f"{__name__}.NAMES", {f"4{key}": f"{name} alter" for key, name in NAMES.items()})
        classifier = colour_classifier(2.0)
        patch.setattr(f"{__name__}.colour_classifier", lambda: classifier)
        write_small_engine(root / "made" / "2", version="2")
    for version in ("1", "2"):
        shutil.copytree(root / "made" / version, root / ENGINES / version)
    write_current(Storage(str(root)), ENGINES, "1")
    return root
