"""The engine: a folder with everything that a service needs. `engine.json` describes it and holds checksums.

    engine.json             EngineInfo, with the sha256 of every other file
    classifier.onnx         input pixels, as EvalTransform.pixels makes them; outputs embedding, logits
    classifier.safetensors  the same weights for torch, with classifier.json as metadata
    taxa.parquet            schemas.TAXA, the classes in order
    shards/                 the index, see aitax_ray.index.shards: embeddings, credits, ScaNN's files
    answers.parquet         schemas.ANSWERS: what it answered to the test photographs, to compare a later engine with

The folder can be copied to any place. `engines/current` is a file with the name of the version in use. It is a file and
not a link, because object stores have no links, but can replace a file in one step.
"""

import hashlib
import logging
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pyarrow.fs import LocalFileSystem
from pydantic import BaseModel, ConfigDict, ValidationError

from aitax_ray.errors import EngineError
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.storage import Storage
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform

if TYPE_CHECKING:
    from aitax_ray.index.shards import Index

log = logging.getLogger(__name__)

# 1 had an ONNX file that took normalized float32 (N, 3, H, W), 2 one temperature and no decisions, 3 one ScaNN index.
FORMAT_VERSION = 4
INFO, ONNX, WEIGHTS = "engine.json", "classifier.onnx", "classifier.safetensors"
TAXA, SHARDS, ANSWERS = "taxa.parquet", "shards", "answers.parquet"


class Thresholds(BaseModel):
    """Limits on the candidates of an answer."""

    model_config = ConfigDict(frozen=True)

    min_score: float
    """Answers leave out candidates with a lower score."""
    max_total_score: float
    """Answers end when the sum of the scores reaches this."""


class EngineInfo(BaseModel):
    """The description of an engine: engine.json."""

    model_config = ConfigDict(frozen=True)

    format_version: int
    version: str
    created: datetime
    arch: str
    transform: EvalTransform
    classes: list[str]
    """The species keys in the order of the logits."""
    embedding_size: int
    quantization: Literal["none", "static", "dynamic"] = "none"
    """How classifier.onnx was quantized to int8. The weights in classifier.safetensors are never quantized."""
    decisions: Decisions
    """How logits become answers, fitted on the val side. A quantized classifier has only temperatures of its own."""
    thresholds: Thresholds
    num_indexed: int
    doi: str | None
    citation: str | None
    checklist_key: str | None
    metrics: dict[str, float]
    """Figures of the trained classifier on the test side."""
    export: dict[str, float] = {}
    """Figures of the ONNX file: how far it differs from the trained classifier, what quantization cost."""
    versions: dict[str, str]
    files: dict[str, str]
    """The sha256 of each file."""


@dataclass(frozen=True)
class Taxon:
    """An entry of the checklist; `name` is without authorship."""

    species_key: str
    name: str
    scientific_name: str
    authorship: str
    rank: str
    vernacular_name: str
    """As the archive has it, else the English one."""
    genus: str
    family: str
    vernacular_names: tuple[tuple[str, str], ...] = ()
    """A name per language: (ISO 639-3, name)."""


class Engine:
    """An engine in any storage. Each part is fetched, checked and loaded when it is first used."""

    def __init__(self, storage: Storage, place: str, info: EngineInfo) -> None:
        self.info = info
        self._storage, self._place = storage, place
        self.is_local = isinstance(storage.fs, LocalFileSystem)
        if self.is_local:
            self.folder = Path(storage.full(place))
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="aitax-engine-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def classifier(self, num_threads: int | None = None) -> OnnxClassifier:
        """Load the classifier."""
        return OnnxClassifier(self._checked(ONNX).read_bytes(), num_threads)

    @cached_property
    def taxa(self) -> list[Taxon]:
        """The species, in the order of the logits."""
        import pyarrow.parquet as pq

        table = pq.read_table(self._checked(TAXA), columns=list(Taxon.__dataclass_fields__))
        taxa = []
        for row in table.to_pylist():
            names = tuple((each["language"], each["name"]) for each in row.pop("vernacular_names") or ())
            taxa.append(Taxon(**row, vernacular_names=names))
        if [taxon.species_key for taxon in taxa] != self.info.classes:
            raise EngineError(f"{self.folder / TAXA} does not hold the classes of {INFO}: publish the engine again")
        return taxa

    def index(self) -> "Index":
        """Open the index. Raises EngineError unless it has `num_indexed` photographs."""
        from aitax_ray.index.shards import Index

        names = [name for name in self.info.files if name.startswith(f"{SHARDS}/")]
        for name in names:
            self._checked(name)
        index = Index([self.folder / SHARDS / shard for shard in sorted({name.split("/")[1] for name in names})])
        if len(index) != self.info.num_indexed:
            raise EngineError(
                f"{self.folder / SHARDS} has {len(index):,} photographs, {INFO} says {self.info.num_indexed:,}: "
                "publish the engine again"
            )
        return index

    def verify(self) -> None:
        """Check every file. Raises EngineError."""
        for name in self.info.files:
            self._checked(name)

    def _checked(self, name: str) -> Path:
        path, source = self.folder / name, _join(self._place, name)
        if not path.is_file():
            if not self._storage.exists(source):
                place = self._storage.address(self._place)
                raise EngineError(f"the engine in {place} lacks {name}: copy it again, or publish it again")
            self._storage.fetch(source, path.parent)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.info.files.get(name):
            raise EngineError(f"{path} has changed since it was published (sha256 differs): copy or publish it again")
        return path


def write_bundle(storage: Storage, folder: str, files: dict[str, bytes | str], info: dict[str, Any]) -> EngineInfo:
    """Write an engine's files and, last, its `engine.json`.

    `files` maps names to contents, or to paths in `storage` to copy from; `info` holds EngineInfo without `files`.
    """
    storage.delete(folder)
    for name, content in files.items():
        if isinstance(content, str):
            storage.copy(content, f"{folder}/{name}")
        else:
            storage.write_bytes(f"{folder}/{name}", content)
    engine_info = EngineInfo(**info, files={name: storage.sha256(f"{folder}/{name}") for name in files})
    storage.write_json(f"{folder}/{INFO}", engine_info.model_dump(mode="json"))
    return engine_info


def open_engine(location: str) -> Engine:
    """Open an engine. `location` is a path or a URL: its folder, `engines/current`, `engines`, or the root.

    Each part of a remote engine is copied to a temporary folder when it is first used. Raises EngineError when there is
    no engine, or when its format is not FORMAT_VERSION.
    """
    storage = Storage(location.removesuffix("/").removesuffix("/current"))
    places = ("", _current(storage, "current", ""), _current(storage, "engines/current", "engines/"))
    place = next((p for p in places if p is not None and storage.exists(_join(p, INFO))), None)
    if place is None:
        raise EngineError(
            f"no engine in {location}: give the folder that holds {INFO}, or a root where `aitax publish` has been run"
        )
    try:
        content = storage.read_json(_join(place, INFO))
        if content.get("format_version") != FORMAT_VERSION:
            raise EngineError(
                f"the engine in {location} has format {content.get('format_version')}, this program reads "
                f"{FORMAT_VERSION}: publish it again with this version"
            )
        info = EngineInfo.model_validate(content)
    except (ValidationError, ValueError, AttributeError) as error:
        raise EngineError(f"{INFO} of the engine in {location} cannot be read: copy or publish it again") from error
    log.info("engine %s: %s, %s species", info.version, info.arch, f"{len(info.classes):,}")
    return Engine(storage, place, info)


def _current(storage: Storage, path: str, prefix: str) -> str | None:
    return prefix + storage.read_bytes(path).decode().strip() if storage.exists(path) else None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
