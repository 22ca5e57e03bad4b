"""Fetch an archive: streamed into a file aside, taken up where it broke off, checked before it gets its name."""

import logging
import math
import re
import zipfile
import zlib
from pathlib import Path

import httpx

from aitax_ray.errors import GbifError, StorageError
from aitax_ray.gbif.client import TRIES, Client
from aitax_ray.progress import Advance, progress

log = logging.getLogger(__name__)

MAX_BYTES = 200 * 2**30  # GBIF's largest downloads with media stay below
MB = 10**6


def fetch(client: Client, url: str, target: Path, *, size: int = 0, max_bytes: int = MAX_BYTES) -> None:
    """Fetch `url` into `target`, by way of `target` + ".part", which a later call goes on with.

    `size` in bytes is checked when it is known. Raises GbifError when the host refuses, keeps breaking off, or sends
    something else than an archive of that size; StorageError when the disk does.
    """
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        again = part.exists()
        broke_off = _fill(client, url, part, size, max_bytes)
        if (again or broke_off) and not _sound(part):
            log.info("the pieces of %s do not fit together; fetching it whole", url)
            part.unlink()
            _fill(client, url, part, size, max_bytes)
        _check(part, url, size)
        part.replace(target)
    except OSError as error:
        raise StorageError(f"{part} cannot be written: {error}; make room or choose another --root") from error


def _fill(client: Client, url: str, part: Path, size: int, max_bytes: int) -> bool:
    """Append to `part` until it is whole; tell whether it took more than one request."""
    failures, requests = 0, 0
    with progress("fetching the archive", math.ceil(size / MB), "MB") as advance:
        while failures < TRIES:
            have = part.stat().st_size if part.exists() else 0
            requests += 1
            response = client.open(url, {"Range": f"bytes={have}-"} if have else None)
            try:
                status = response.status_code
                if status == 416 and have == (_total(response, 0) or size):  # nothing is left to send
                    return requests > 1
                if status == 416 or (status == 206 and not _begins_at(response, have)):  # another file by now
                    part.unlink()
                    failures += 1
                    continue
                if status not in (200, 206):
                    raise GbifError(f"{url} answers {status} {response.reason_phrase}: check that it is still there")
                begin = have if status == 206 else 0
                total = _total(response, begin) or size
                if total > max_bytes:
                    raise GbifError(
                        f"{url} is of {total:,} bytes, more than the {max_bytes:,} allowed: narrow the query"
                    )
                log.info(
                    "fetching %s of %s bytes, from byte %s on", url, f"{total:,}" if total else "so many", f"{begin:,}"
                )
                end, finished = _append(response, part, begin, max_bytes, url, advance)
            finally:
                response.close()
            if finished and end >= total:
                return requests > 1
            failures = failures + 1 if end <= have else 1
            log.info("%s broke off at %s of %s bytes; going on there", url, f"{end:,}", f"{total:,}")
            client.sleep(client.pause_s(failures - 1))
    raise GbifError(f"{url} breaks off again and again: run the same command later, it goes on where it stopped")


def _append(
    response: httpx.Response, part: Path, begin: int, max_bytes: int, url: str, advance: Advance
) -> tuple[int, bool]:
    """Write the body from `begin` on; returns where it ended, and whether the server said that this is the end."""
    end, finished = begin, True
    with part.open("r+b" if begin else "wb") as file:
        file.seek(begin)
        file.truncate()
        try:
            # In chunks as they come: with a chunk size, httpx drops what it has gathered when the connection breaks.
            for chunk in response.iter_raw():
                file.write(chunk)
                advance(math.ceil((end + len(chunk)) / MB) - math.ceil(end / MB), "")
                end += len(chunk)
                if end > max_bytes:
                    raise GbifError(f"{url} sends more than the {max_bytes:,} bytes allowed: narrow the query")
        except httpx.TransportError as error:
            log.debug("%s: %s", url, error)
            finished = False
    return end, finished


def _total(response: httpx.Response, begin: int) -> int:
    """The size of the whole file in bytes, 0 when the answer does not tell."""
    if found := re.search(r"/(\d+)\s*$", response.headers.get("Content-Range", "")):
        return int(found[1])
    length = response.headers.get("Content-Length", "")
    return begin + int(length) if length.isdigit() and response.status_code in (200, 206) else 0


def _begins_at(response: httpx.Response, have: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return bool(found and int(found[1]) == have)


def _check(part: Path, url: str, size: int) -> None:
    """Raise GbifError unless the file is as GBIF announced it. Contents are checked as they are read."""
    have = part.stat().st_size
    with part.open("rb") as file:
        head = file.read(80)
    if not head.startswith((b"PK", b"\x1f\x8b")):
        part.unlink()
        raise GbifError(
            f"{url} is no archive, it begins {head!r}: the download may be erased; request it again at GBIF"
        )
    if (size and have != size) or (head.startswith(b"PK") and not zipfile.is_zipfile(part)):
        part.unlink()
        told = f", GBIF tells of {size:,}" if size else ""
        raise GbifError(f"what {url} sent is no whole archive ({have:,} bytes{told}): run the same command again")


def _sound(part: Path) -> bool:
    """Tell whether every member of a zip has its checksum; other files pass."""
    try:
        with zipfile.ZipFile(part) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        with part.open("rb") as file:
            return file.read(2) != b"PK"
    except (
        zlib.error,
        RuntimeError,
        NotImplementedError,
        EOFError,
        ValueError,
    ):  # what zipfile says of mangled members
        return False
