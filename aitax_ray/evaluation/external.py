"""Photographs of somebody else to evaluate on: a folder per species, as `manifest --photos` takes it.

A folder is a class of the engine when it bears the species key, the name or the scientific name. The photographs of
other folders show species that the engine does not know: they measure the rejection.
"""

import asyncio
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aitax_ray.errors import DataError
from aitax_ray.evaluation.questions import Photographs
from aitax_ray.images.answers import TOO_LARGE
from aitax_ray.images.decode import Photo, Refusal
from aitax_ray.images.decoders import DecoderPool
from aitax_ray.index.added import read_head, read_info
from aitax_ray.progress import progress
from aitax_ray.text import decode_file_name
from aitax_ray.training.embeddings import views_of
from aitax_ray.training.feed import decode_for_evaluation
from aitax_ray.workspace import Workspace

IMAGE_SIZE = 512  # px, the shorter side; the default of `download`
MAX_BYTES = 100 * 2**20
UNREADABLE = "unreadable_file"
BATCH = 32


@dataclass(frozen=True)
class ExternalPhotographs:
    """The photographs that could be read, with counts of the others by reason."""

    photographs: Photographs
    refused: dict[str, int]
    unknown: list[str]
    """Folders that are no class of the engine."""


def check_folder(folder: Path, names: dict[str, int]) -> None:
    """Raise DataError when no folder is named after a species of the engine: before the work, which may take hours."""
    files = list(_walk(folder))
    if not any(normalize_name(decode_file_name(path.relative_to(folder).parts[0])) in names for path in files):
        raise _nothing_known(folder, len(files))


def _nothing_known(folder: Path, num_files: int) -> DataError:
    return DataError(
        f"--photos {folder}: none of its {num_files:,} files is a photograph of a species of the engine: it must "
        "hold a folder per species, named as in per_species.parquet"
    )


def read_folder(ws: Workspace, folder: Path, names: dict[str, int]) -> ExternalPhotographs:
    """Read, decode and embed the photographs of a folder per species.

    `names` maps names of species to class_index, see `normalize_name`. Each file counts as an occurrence: what belongs
    together is not known. Raises DataError when no photograph of a known species can be read.
    """
    from aitax_ray.training.predict import ViewEmbedder

    files = list(_walk(folder))
    embedder = ViewEmbedder(ws.root)
    refused: Counter[str] = Counter()
    ids: list[str] = []
    units, lengths = [np.zeros((0, embedder.info.embedding_size), np.float16)], [np.zeros(0, np.float32)]

    async def read_all() -> None:
        pool = DecoderPool(os.cpu_count() or 1, IMAGE_SIZE)
        try:
            with progress("evaluating", len(files), "photographs") as advance:
                for start in range(0, len(files), BATCH):
                    batch = files[start : start + BATCH]
                    decoded = await asyncio.gather(*(_decode(pool, path) for path in batch))
                    refused.update(found.reason for found in decoded if isinstance(found, Refusal))
                    jpegs = {
                        decode_file_name(path.relative_to(folder).as_posix()): found.jpeg
                        for path, found in zip(batch, decoded, strict=True)
                        if isinstance(found, Photo)
                    }
                    if jpegs:
                        rows = embedder(decode_for_evaluation(_table(jpegs), embedder.info.transform))
                        ids.extend(jpegs)
                        units.append(views_of(rows)[:, 0])
                        lengths.append(np.stack(rows["length"].to_numpy())[:, 0])
                    advance(len(batch))
        finally:
            pool.close()

    asyncio.run(read_all())
    target = [names.get(normalize_name(file.split("/")[0]), -1) for file in ids]
    if not any(place >= 0 for place in target):
        raise _nothing_known(folder, len(files))
    unknown = {file.split("/")[0] for file, place in zip(ids, target, strict=True) if place < 0}
    photographs = Photographs(
        image_id=np.array(ids),
        occurrence=np.arange(len(ids)),
        target=np.array(target, np.int64),
        unit=np.concatenate(units),
        length=np.concatenate(lengths),
        head=read_head(ws),
        num_classes=len(read_info(ws).classes),
    )
    return ExternalPhotographs(photographs, dict(refused), sorted(unknown))


def normalize_name(name: str) -> str:
    """Make names comparable: Unicode NFC, no upper case, one blank where there are blanks or underscores.

    >>> normalize_name("Rana_ALBA ")
    'rana alba'
    """
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").casefold().split())


def digest_folder(folder: Path) -> str:
    """Make a digest of the names, sizes and times of the files, to notice that they have changed."""
    digest = hashlib.sha256()
    for path in _walk(folder):
        state = path.stat()
        digest.update(
            f"{path.relative_to(folder).as_posix()}/{state.st_size}/{state.st_mtime_ns}\n".encode(errors="replace")
        )
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files in folders below `folder`, sorted; links to folders are not followed."""
    found = [Path(top, name) for top, _, names in os.walk(folder) for name in names if Path(top) != folder]
    return iter(sorted(path for path in found if path.is_file()))


async def _decode(pool: DecoderPool, path: Path) -> Photo | Refusal:
    """Decode a file in another process, as `download` does: a decoder may crash or hang."""
    try:
        body = await asyncio.to_thread(_read, path)
    except OSError:
        return Refusal(UNREADABLE)
    return Refusal(TOO_LARGE) if body is None else (await pool.decode(body)).photo


def _read(path: Path) -> bytes | None:
    return None if path.stat().st_size > MAX_BYTES else path.read_bytes()


def _table(jpegs: dict[str, bytes]) -> pa.Table:
    num = len(jpegs)
    return pa.table(
        {
            "image_id": list(jpegs),
            "class_index": pa.array([0] * num, pa.int32()),
            "split": ["external"] * num,
            "jpeg": pa.array(list(jpegs.values()), pa.binary()),
        }
    )
