"""The description of an engine, engine.json, and the file that names the engine in use."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aitax_ray.errors import EngineError
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.storage import Storage
from aitax_ray.training.transforms import EvalTransform

# 1 had an ONNX file that took normalized float32 (N, 3, H, W), 2 one temperature and no decisions, 3 one ScaNN index.
FORMAT_VERSION = 4
INFO, CURRENT, ENGINES = "engine.json", "current", "engines"
NUM_FILES_AT_A_TIME = 8  # when files are read or copied


class Thresholds(BaseModel):
    """Limits on the candidates of an answer."""

    model_config = ConfigDict(frozen=True)

    min_score: float
    """Answers leave out candidates with a lower score."""
    max_total_score: float
    """Answers end when the sum of the scores reaches this."""


class FileDigest(BaseModel):
    """What a file of an engine must be."""

    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes."""
    sha256: str
    """Hex digits."""


class EngineInfo(BaseModel):
    """The description of an engine: engine.json. docs/engine.md explains each field to other programs."""

    model_config = ConfigDict(frozen=True)

    format_version: int
    version: str
    created: datetime
    arch: str
    transform: EvalTransform
    classes: list[str]
    """The species keys in the order of the logits."""
    names: list[str]
    """The scientific names of the classes, without authors."""
    added: list[str] = []
    """The species keys, the last ones of `classes`, that were added without training."""
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
    caveats: list[str] = []
    """What an engine trained on these data cannot tell, in sentences: those of the data card."""
    metrics: dict[str, float]
    """Figures of the trained classifier on the test side."""
    export: dict[str, float] = {}
    """Figures of the ONNX file: how far it differs from the trained classifier, what quantization cost."""
    settings: dict[str, dict[str, Any]] = {}
    """The settings of each stage that made the engine."""
    versions: dict[str, str]
    files: dict[str, FileDigest]
    """All other files of the engine, by their path in its folder."""

    @property
    def num_bytes(self) -> int:
        """Size of all files that are listed."""
        return sum(file.size for file in self.files.values())


def read_info(storage: Storage, place: str) -> EngineInfo:
    """Read engine.json in the folder `place`. Raises EngineError when it cannot be used."""
    address = storage.address(place)
    if not storage.exists(join(place, INFO)):
        raise EngineError(
            f"no complete engine in {address}, {INFO} is missing: copy or publish it again", f"{INFO} is missing"
        )
    try:
        content = storage.read_json(join(place, INFO))
        if content.get("format_version") != FORMAT_VERSION:
            raise EngineError(
                f"the engine in {address} has format {content.get('format_version')}, this program reads "
                f"{FORMAT_VERSION}: publish it again with this version",
                "it has another format",
            )
        return EngineInfo.model_validate(content)
    except (ValidationError, ValueError, AttributeError) as error:
        message = f"{INFO} of the engine in {address} cannot be read: copy or publish it again"
        raise EngineError(message, f"{INFO} cannot be read") from error


def find_faults(storage: Storage, place: str, info: EngineInfo, names: Iterable[str] | None = None) -> list[str]:
    """Say which files of an engine (by default all) are missing or have another size. Their content is not read."""
    names = list(info.files if names is None else names)
    sizes = storage.sizes([join(place, name) for name in names])
    return [
        f"{name} is missing" if size is None else f"{name} has {size:,} bytes instead of {info.files[name].size:,}"
        for name, size in zip(names, sizes, strict=True)
        if size != info.files[name].size
    ]


def find_changes(storage: Storage, place: str, info: EngineInfo, names: Iterable[str] | None = None) -> list[str]:
    """Say which files of an engine (by default all) have another sha256. They must be there."""
    names = list(info.files if names is None else names)
    with ThreadPoolExecutor(NUM_FILES_AT_A_TIME) as pool:
        found = pool.map(lambda name: storage.sha256(join(place, name)), names)
        return [
            f"{name} has changed since it was published (sha256 differs)"
            for name, sha256 in zip(names, found, strict=True)
            if sha256 != info.files[name].sha256
        ]


def refuse(storage: Storage, place: str, faults: Sequence[str]) -> None:
    """Raise EngineError when there are faults."""
    if faults:
        more = f" (and {len(faults) - 1:,} more)" if len(faults) > 1 else ""
        raise EngineError(
            f"the engine in {storage.address(place)} cannot be used, {faults[0]}{more}: copy or publish it again",
            f"{faults[0]}{more}",
        )


def read_current(storage: Storage, folder: str) -> str | None:
    """Read which engine of a folder is in use: its version; None when no engine was made current."""
    content = storage.read_if_there(join(folder, CURRENT))
    return None if content is None else content.decode(errors="replace").strip()


def write_current(storage: Storage, folder: str, version: str) -> None:
    """Make an engine of the folder the one in use, in one step."""
    storage.write_bytes(join(folder, CURRENT), f"{version}\n".encode())


def join(folder: str, name: str) -> str:
    """Join two parts of a path; the first may be ""."""
    return f"{folder}/{name}" if folder else name
