"""The engine: a folder with everything that a service needs. `engine.json` describes it and holds checksums.

    engine.json             EngineInfo, with the size and the sha256 of every other file; it is written last
    classifier.onnx         input pixels, as EvalTransform.pixels makes them; outputs embedding, logits
    classifier.safetensors  the same weights for torch, with classifier.json as metadata
    taxa.parquet            schemas.TAXA, the classes in order
    shards/                 the index, see aitax_ray.index.shards: embeddings, credits, thumbnails, ScaNN's files
    answers.parquet         schemas.ANSWERS: what it answered to the test photographs, to compare a later engine with
    data_card.html, report.html, model_card.md, per_species.parquet   see aitax_ray.engine.documents

The folder can be copied to any place. `engines/current` is a file with the name of the version in use. It is a file and
not a link, because object stores have no links, but can replace a file in one step.
"""

import contextlib
import hashlib
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyarrow.fs import LocalFileSystem

from aitax_ray.engine.info import (
    CURRENT,
    ENGINES,
    INFO,
    NUM_FILES_AT_A_TIME,
    EngineInfo,
    FileDigest,
    find_changes,
    find_faults,
    join,
    read_current,
    read_info,
    refuse,
)
from aitax_ray.errors import EngineError, StorageError
from aitax_ray.index.shards import ROWS, THUMBNAILS, Index, read_rows
from aitax_ray.storage import Storage
from aitax_ray.training.onnx_classifier import OnnxClassifier

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

ONNX, WEIGHTS, TAXA, SHARDS = "classifier.onnx", "classifier.safetensors", "taxa.parquet", "shards"
ANSWERS = "answers.parquet"
AGAIN = "copy it again, or publish it again"


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
    is_added: bool = False
    """Whether the species was added to the engine without training."""
    num_images: int = 0
    """Photographs in the archive."""


class Engine:
    """An engine in any storage. Each part is fetched, checked and loaded when it is first used.

    The files of a part are compared with their sha256 in engine.json when it is loaded. Thumbnails are an exception: of
    an engine on this machine only `verify` reads them all.
    """

    def __init__(self, storage: Storage, place: str, info: EngineInfo) -> None:
        self.info = info
        self.storage, self.place = storage, place
        self._checked: set[str] = set()
        self.is_local = isinstance(storage.fs, LocalFileSystem)
        if self.is_local:
            self.folder = Path(storage.full(place))
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="aitax-engine-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def classifier(self, num_threads: int | None = None, on_gpu: bool = False) -> OnnxClassifier:
        """Load the classifier, and run it once. Raises EngineError unless its outputs are those of engine.json."""
        self._check([ONNX])
        path, size = self.folder / ONNX, self.info.transform.crop_size
        try:
            classifier = OnnxClassifier(path.read_bytes(), num_threads, on_gpu)
            embedding, logits = classifier.predict(np.zeros((1, size, size, 3), np.uint8))
        except EngineError:
            raise
        except Exception as error:  # those of onnxruntime have no other common base
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"{path} does not classify photographs of {size} px ({reason}): {AGAIN}") from error
        found, expected = (embedding.shape[1], logits.shape[1]), (self.info.embedding_size, len(self.info.classes))
        if found != expected:
            raise EngineError(
                f"{path} is the classifier of another engine: its embeddings have {found[0]:,} numbers and it knows "
                f"{found[1]:,} species, {INFO} says {expected[0]:,} and {expected[1]:,}: {AGAIN}"
            )
        return classifier

    @cached_property
    def taxa(self) -> list[Taxon]:
        """The species, in the order of the logits."""
        import pyarrow.parquet as pq

        self._check([TAXA])
        columns = [name for name in Taxon.__dataclass_fields__ if name != "is_added"]
        table, added, taxa = pq.read_table(self.folder / TAXA, columns=columns), set(self.info.added), []
        for row in table.to_pylist():
            names = tuple((each["language"], each["name"]) for each in row.pop("vernacular_names") or ())
            taxa.append(Taxon(**row, vernacular_names=names, is_added=row["species_key"] in added))
        if [taxon.species_key for taxon in taxa] != self.info.classes:
            raise EngineError(f"{self.folder / TAXA} does not hold the classes of {INFO}: {AGAIN}")
        return taxa

    @property
    def shards(self) -> list[str]:
        """The names of the folders of the index, in order."""
        return sorted({name.split("/")[1] for name in self.info.files if name.startswith(f"{SHARDS}/")})

    def index(self, part: int = 0, num_parts: int = 1) -> Index:
        """Open the index, or the shards of one of `num_parts` parts of it: 0, 1, ... It may have none.

        Raises EngineError when they are not those that engine.json describes.
        """
        shards = self.shards
        shards = shards[len(shards) * part // num_parts : len(shards) * (part + 1) // num_parts]
        place, own = self.folder / SHARDS, {f"{SHARDS}/{shard}" for shard in shards}
        self._check([name for name in self.info.files if "/".join(name.split("/")[:2]) in own])
        index = Index([place / shard for shard in shards])
        if num_parts == 1 and len(index) != self.info.num_indexed:
            raise EngineError(f"{place} has {len(index):,} photographs, {INFO} says {self.info.num_indexed:,}: {AGAIN}")
        for shard in index.shards:
            size, classes = shard.vectors.shape[1], shard.class_index
            if size != self.info.embedding_size:
                raise EngineError(
                    f"{shard.folder} is of another engine: its vectors have {size:,} numbers, the embeddings of the "
                    f"classifier {self.info.embedding_size:,}: {AGAIN}"
                )
            if len(classes) and not 0 <= classes[0] <= classes[-1] < len(self.info.classes):
                raise EngineError(f"{shard.folder} has species that {INFO} does not have: {AGAIN}")
        return index

    def read_file(self, name: str) -> bytes | None:
        """Read a file; None if the engine has none of this name. Raises EngineError when it is not what it must be."""
        if name not in self.info.files:
            return None
        self._check([name])
        return (self.folder / name).read_bytes()

    def image_ids(self) -> "pa.ChunkedArray":
        """Read the image_id of each indexed photograph."""
        self._check([name for name in self.info.files if name.endswith(f"/{ROWS}")])
        return read_rows(Storage(str(self.folder)), ["image_id"], SHARDS)["image_id"]

    def verify(self, *, thumbnails: bool = True) -> None:
        """Check all files and load every part; thumbnails may be left out. Raises EngineError."""
        self._check(self.info.files, thumbnails=thumbnails)
        self.classifier()
        self.index()
        _ = self.taxa

    def find_problems(self) -> list[str]:
        """Check every file, and say all that is wrong."""
        storage, place = self.storage, self.place
        problems = find_faults(storage, place, self.info) or find_changes(storage, place, self.info)
        if not problems and self.is_local:  # a remote engine would be copied here for this
            self._checked.update(self.info.files)
            try:
                self.verify()
            except EngineError as error:
                problems = [str(error)]
        return problems

    def _check(self, names: Iterable[str], *, thumbnails: bool = False) -> None:
        """Fetch files that are not on this machine, and compare them with their checksums. Raises EngineError.

        Of thumbnails that were not fetched only the size is compared, unless `thumbnails`.
        """
        new = [name for name in names if name not in self._checked]
        if not self.is_local:
            with ThreadPoolExecutor(NUM_FILES_AT_A_TIME) as pool:
                list(pool.map(self._fetch, new))
        here = Storage(str(self.folder))
        read = [name for name in new if thumbnails or not self.is_local or not _is_thumbnails(name)]
        refuse(here, "", find_faults(here, "", self.info, new) or find_changes(here, "", self.info, read))
        self._checked.update(read)

    def _fetch(self, name: str) -> None:
        self.storage.fetch(join(self.place, name), (self.folder / name).parent)


def write_bundle(
    storage: Storage,
    folder: str,
    files: Mapping[str, bytes | str],
    info: Mapping[str, Any],
    verify: Callable[[Engine], object] = Engine.verify,
) -> EngineInfo:
    """Write an engine's files, check them as they were written, and write `engine.json` last.

    `files` maps names to contents, or to paths in `storage` to copy from; `info` holds EngineInfo without `files`.
    `verify` raises an exception when the engine must not be published. After any exception nothing is there.
    """
    storage.delete(folder)
    try:
        with ThreadPoolExecutor(NUM_FILES_AT_A_TIME) as pool:
            digests = pool.map(lambda name: _write_file(storage, f"{folder}/{name}", files[name]), files)
            engine_info = EngineInfo(**info, files=dict(zip(files, digests, strict=True)))
        verify(Engine(storage, folder, engine_info))
        storage.write_json(f"{folder}/{INFO}", engine_info.model_dump(mode="json"))
        # Another run of `publish` may have taken it for the remains of a killed one.
        refuse(storage, folder, find_faults(storage, folder, engine_info))
        return read_info(storage, folder)
    except BaseException:
        with contextlib.suppress(StorageError):  # the first error is the one to report
            storage.delete(folder)
        raise


def _write_file(storage: Storage, path: str, content: bytes | str) -> FileDigest:
    """Write a file from bytes, or from a path to copy; returns what it must be, which is not read from the result."""
    if isinstance(content, bytes):
        storage.write_bytes(path, content)
        return FileDigest(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    (size,), sha256 = storage.sizes([content]), storage.sha256(content)
    storage.copy(content, path)
    return FileDigest(size=size or 0, sha256=sha256)


def open_engine(location: str, place: str | None = None) -> Engine:
    """Open an engine. `location` is a path or a URL: its folder, `engines/current`, `engines`, or the root.

    `place` is that of another engine which was opened at this location. Each part of a remote engine is copied to a
    temporary folder when it is first used. Raises EngineError when there is no engine, when its format is not
    FORMAT_VERSION, or when a file is missing or has another size.
    """
    storage = Storage(location.removesuffix("/").removesuffix(f"/{CURRENT}"))
    place = _find_place(storage) if place is None else place
    if place is None:
        raise EngineError(
            f"no engine in {storage.address()}: give the folder that holds {INFO}, or a root where `aitax publish` has "
            "been run"
        )
    info = read_info(storage, place)
    refuse(storage, place, find_faults(storage, place, info))
    log.info("engine %s: %s, %s species", info.version, info.arch, f"{len(info.classes):,}")
    return Engine(storage, place, info)


def _find_place(storage: Storage) -> str | None:
    """Find the folder of the engine: the root of the storage, or the one that `current` names. Raises EngineError."""
    if storage.exists(INFO):
        return ""
    for folder in ("", ENGINES):
        version = read_current(storage, folder)
        if version is not None:
            place = join(folder, version)
            if not version or not storage.exists(place):
                raise EngineError(
                    f"{storage.address(join(folder, CURRENT))} names the engine {version!r}, which is not there: "
                    f"`aitax engines rollback --root {storage.address()}` makes another one current"
                )
            return place
    return None


def _is_thumbnails(name: str) -> bool:
    return name.endswith(f"/{THUMBNAILS}")
