"""Fetch an archive into a file: resume where it broke off, check it, and only then give it its name.

    archive.part             the bytes that have arrived; a later run fetches the rest
    archive.part.complete    all bytes, not checked yet
    archive                  all bytes, checked

Size, speed, time and the number of tries are bounded.
"""

import itertools
import logging
import math
import re
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx

from aitax_ray.errors import GbifError, StorageError
from aitax_ray.gbif.client import TRIES, Client
from aitax_ray.progress import Advance, progress
from aitax_ray.web import hide_secrets

log = logging.getLogger(__name__)

MB = 10**6
MAX_BYTES = 200 * 2**30  # GBIF's largest downloads with media stay below
MAX_S = 7 * 24 * 3600.0  # for one archive; MAX_BYTES at 400 kB/s take six days
MIN_RATE = 1000.0  # bytes a second, over SLOW_S
SLOW_S = 120.0
HEAD_BYTES = 512  # a tar says what it is in its first block
ARCHIVES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # zip; tar packed with gzip, bzip2, xz


def fetch(
    client: Client, url: str, target: Path, *, part: Path | None = None, size: int = 0, max_bytes: int = MAX_BYTES
) -> None:
    """Fetch `url` into `target` by way of `part` (by default `target` + ".part"), which a later call resumes.

    `size` in bytes is checked when it is known. Raises GbifError when the host refuses, keeps breaking off, is too
    slow, or sends something other than an archive of that size; StorageError when the disk fails.
    """
    part = part or target.with_name(target.name + ".part")
    complete = part.with_name(part.name + ".complete")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        in_pieces = part.exists() or complete.exists()
        if not complete.exists() and not size and part.exists() and _is_complete(part):  # killed before the rename
            part.replace(complete)
        if not complete.exists():
            in_pieces |= _fill(client, url, part, size, max_bytes)
            part.replace(complete)
        if in_pieces and not _is_sound(complete):
            log.info("the pieces of %s do not fit together: fetching it from the beginning", hide_secrets(url))
            complete.unlink()
            _fill(client, url, part, size, max_bytes)
            part.replace(complete)
        _check(complete, url, size)
        complete.replace(target)
    except OSError as error:
        raise StorageError(f"{part} cannot be written: {error}; make room or choose another --root") from error


def _fill(client: Client, url: str, part: Path, size: int, max_bytes: int) -> bool:
    """Append to `part` until all of it is there; tell whether it took more than one request."""
    shown, until = hide_secrets(url), time.monotonic() + MAX_S
    failures, requests = 0, 0
    with progress("fetching the archive", math.ceil(size / MB), "MB") as advance:
        while failures < TRIES:
            have = part.stat().st_size if part.exists() else 0
            if size and have == size:
                return requests != 1
            requests += 1
            response = client.open(url, {"Range": f"bytes={have}-"} if have else None)
            try:
                status = response.status_code
                if status == 416 and have == (_total(response, 0) or size):  # nothing is left to send
                    return requests > 1
                if status == 416 or (status == 206 and not _begins_at(response, have)):
                    part.unlink()  # it is of an earlier file
                    failures += 1
                    continue
                if status not in (200, 206):
                    raise GbifError(f"{shown} answers {status} {response.reason_phrase}: check that it is still there")
                begin = have if status == 206 else 0
                total = _total(response, begin) or size
                if total > max_bytes:
                    raise GbifError(
                        f"{shown} is of {total:,} bytes, more than the {max_bytes:,} allowed: narrow the query"
                    )
                log.info(
                    "fetching %s of %s bytes, from byte %s on",
                    shown,
                    f"{total:,}" if total else "an unknown number",
                    f"{begin:,}",
                )
                end, is_end = _append(response, part, begin, max_bytes, url, until, advance)
            finally:
                response.close()
            if is_end and end >= total:
                return requests > 1
            if time.monotonic() >= until:
                raise GbifError(
                    f"{shown} takes more than {MAX_S / 3600:,.0f} h: run the same command later, it goes on at "
                    f"{end:,} bytes"
                )
            # A host that breaks off after every few bytes would never come to an end.
            failures = 1 if end - have >= MB else failures + 1
            log.info("%s broke off at %s of %s bytes; going on there", shown, f"{end:,}", f"{total:,}")
            client.sleep(client.pause_s(failures - 1))
    raise GbifError(f"{shown} breaks off again and again: run the same command later, it goes on where it stopped")


def _append(
    response: httpx.Response, part: Path, begin: int, max_bytes: int, url: str, until: float, advance: Advance
) -> tuple[int, bool]:
    """Write the body from `begin` on; return where it ended, and whether the server said that this is the end."""
    shown, end = hide_secrets(url), begin
    time_before, end_before = time.monotonic(), begin
    # In chunks as they come: with a chunk size, httpx drops what it has gathered when the connection breaks.
    chunks = response.iter_raw() if begin else _check_head(response.iter_raw(), shown)
    try:
        first = next(chunks, b"")  # before the file is opened: its bytes stay unless an archive comes
        with part.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            file.truncate()
            for chunk in itertools.chain([first], chunks):
                file.write(chunk)
                advance(math.ceil((end + len(chunk)) / MB) - math.ceil(end / MB), "")
                end += len(chunk)
                now = time.monotonic()
                if end > max_bytes:
                    raise GbifError(f"{shown} sends more than the {max_bytes:,} bytes allowed: narrow the query")
                if now >= until:
                    return end, False
                if now - time_before >= SLOW_S:
                    if end - end_before < MIN_RATE * (now - time_before):
                        log.info("%s sends less than %s bytes a second", shown, f"{MIN_RATE:,.0f}")
                        return end, False
                    time_before, end_before = now, end
    except httpx.TransportError as error:
        log.debug("%s: %s", shown, error)
        return end, False
    return end, True


def _check_head(chunks: Iterator[bytes], shown: str) -> Iterator[bytes]:
    """Pass the chunks on once their first bytes are those of an archive. Raises GbifError when they are not."""
    head = b""
    for chunk in chunks:
        head += chunk
        if head.startswith(ARCHIVES) or len(head) >= HEAD_BYTES:
            break
    if not head.startswith(ARCHIVES) and head[257:262] != b"ustar":
        raise GbifError(
            f"{shown} is no archive, it begins {head[:80]!r}: the download may be erased; request it again at GBIF"
        )
    yield head
    yield from chunks


def _total(response: httpx.Response, begin: int) -> int:
    """The size of the file in bytes; 0 when the answer does not say."""
    if found := re.search(r"/(\d+)\s*$", response.headers.get("Content-Range", "")):
        return int(found[1])
    length = response.headers.get("Content-Length", "")
    return begin + int(length) if length.isdigit() and response.status_code in (200, 206) else 0


def _begins_at(response: httpx.Response, have: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return bool(found and int(found[1]) == have)


def _check(complete: Path, url: str, size: int) -> None:
    """Delete the file and raise GbifError unless it is as announced. Its contents are checked when they are read."""
    have = complete.stat().st_size
    with complete.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if (size and have != size) or (is_zip and not zipfile.is_zipfile(complete)):
        complete.unlink()
        announced = f", GBIF announced {size:,}" if size else ""
        raise GbifError(
            f"what {hide_secrets(url)} sent is not a complete archive ({have:,} bytes{announced}): "
            "run the same command again"
        )


def _is_complete(part: Path) -> bool:
    """Tell whether a part is a zip from its first byte to its last."""
    try:
        with zipfile.ZipFile(part) as archive:
            return bool(archive.infolist()) and min(info.header_offset for info in archive.infolist()) == 0
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # what zipfile says of damaged ones
        return False


def _is_sound(path: Path) -> bool:
    """Tell whether every member of a zip has its checksum. Other files pass: they are checked when they are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        with path.open("rb") as file:
            return file.read(2) != b"PK"
    except (zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError):  # what zipfile says of damaged ones
        return False
