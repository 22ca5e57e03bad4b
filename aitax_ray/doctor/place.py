"""Tries whether a root can be written, read and deleted, how fast, and whether other nodes see the same files."""

import os
import shutil
import time
import uuid
from pathlib import Path

from aitax_ray.doctor.findings import Finding
from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage

TRIAL = ".aitax-doctor"  # a hidden folder: no stage reads it
TRIAL_BYTES = 16 << 20
SLOW_BYTES_PER_S = 5e6
MIN_FREE = 10 << 30


def try_storage(root: str) -> list[Finding]:
    """Write a file under a root, read it, and delete it again."""
    try:
        storage = Storage(root)
        path, content = f"{TRIAL}/{uuid.uuid4().hex}", os.urandom(TRIAL_BYTES)
        begin = time.monotonic()
        storage.write_bytes(path, content)
        written = time.monotonic()
        same = storage.read_bytes(path) == content
        read = time.monotonic()
        storage.delete(path)
        _delete_folder(storage)
    except StorageError as error:
        remedy = "check the address, the credentials, and the rights to write"
        return [Finding("storage", "broken", str(error), remedy)]
    if not same:
        text = f"{storage.address()} gives back other bytes than were written"
        return [Finding("storage", "broken", text, "use another storage")]
    speeds = TRIAL_BYTES / max(written - begin, 1e-6), TRIAL_BYTES / max(read - written, 1e-6)
    text = f"{storage.address()}: writes {speeds[0] / 1e6:,.0f} MB/s, reads {speeds[1] / 1e6:,.0f} MB/s, deletes"
    slow = min(speeds) < SLOW_BYTES_PER_S
    remedy = "photographs come and go at this speed: use a storage in the same data centre" if slow else ""
    return [Finding("storage", "warning" if slow else "ok", text, remedy), *_room(storage)]


def _room(storage: Storage) -> list[Finding]:
    if "://" in storage.root:
        return []
    free = shutil.disk_usage(storage.full()).free
    if free >= MIN_FREE:
        return [Finding("disk", "ok", f"{free / 1e9:,.0f} GB free under {storage.address()}")]
    text = f"{free / 1e9:,.1f} GB free under {storage.address()}"
    return [Finding("disk", "warning", text, "a photograph takes some 60 kB, a thumbnail 10 kB: make room")]


class Marker:
    """A file under a root that other nodes look for."""

    def __init__(self, root: str) -> None:
        self.storage, self.path = Storage(root), f"{TRIAL}/{uuid.uuid4().hex}"

    def __enter__(self) -> "Marker":
        self.storage.write_bytes(self.path, b"here")
        return self

    def __exit__(self, *_: object) -> None:
        self.storage.delete(self.path)
        _delete_folder(self.storage)


def look_for(root: str, path: str) -> str:
    """Look for a marker from another node, and write beside it. Returns what is wrong, "" when nothing is."""
    try:
        storage = Storage(root)
        if not storage.exists(path):
            return "does not see the files that this process writes there"
        own = f"{TRIAL}/{uuid.uuid4().hex}"
        storage.write_bytes(own, b"there")
        storage.delete(own)
    except StorageError as error:
        return str(error)
    return ""


def judge_views(root: str, wrong: dict[str, str]) -> list[Finding]:
    """Judge what the nodes said to `look_for`: name of the node to what is wrong there."""
    failed = {name: text for name, text in wrong.items() if text}
    remedy = "every node must reach the root: use s3:// or gs://, or a folder that all nodes mount at this path"
    found = [Finding("storage", "broken", f"{root} on {name}: {text}", remedy) for name, text in failed.items()]
    return found or [Finding("storage", "ok", f"all {len(wrong)} nodes see and write the same {root}")]


def _delete_folder(storage: Storage) -> None:
    if "://" not in storage.root:
        folder = Path(storage.full(TRIAL))
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
