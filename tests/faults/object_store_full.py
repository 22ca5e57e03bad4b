"""The object store of Ray is full: stages go on while Ray can spill; without room for that, an error says so.

python -m tests.faults.object_store_full [download] [index] [evaluate] [train]     as root: the disk is a tmpfs

With more room on that disk, the same command goes on.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.cluster import Cluster, check, cluster, say
from tests.faults.disk import LARGE, mounted, resize, used_bytes
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web

STORE_BYTES = 80_000_000  # 75 MB are the least that Ray takes
# Holds three times as much. After a line from its stdin it fills the rest, and it ends with its stdin.
HOLD = """
import contextlib, sys, numpy, ray
ray.init(address=sys.argv[1], log_to_driver=False)
def put(n, size):
    held.append((n, ray.put(numpy.full(size, n, numpy.uint8))))
held = []
for n in range(12):
    put(n, int(sys.argv[2]) // 4)
print("full", flush=True)
sys.stdin.readline()
for size in (5_000_000, 500_000, 50_000, 5_000):
    with contextlib.suppress(ray.exceptions.OutOfDiskError):
        while True:
            put(100, size)
print("no room", flush=True)
sys.stdin.read()
assert all((ray.get(one) == n).all() for n, one in held)
"""
# The stages are small here: their blocks of rows must go into the store, as larger ones do.
SMALL_OBJECTS = {"RAY_max_direct_call_object_size": "1000"}


def main(names: list[str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web, mounted(Path(scratch) / "disk") as disk:
        folder = Path(scratch)
        place = {"RAY_object_spilling_directory": str(disk)}
        with cluster(store_bytes=STORE_BYTES, **place, **SMALL_OBJECTS) as ray:
            for stage, is_tried in chosen(names, web, folder):
                name, expected = stage.name, run_undisturbed(ray, stage, folder)
                if not is_tried:
                    continue
                roots = folder / f"{name}-spilled", folder / f"{name}-no-room"
                for root in roots:
                    stage.prepare(root)
                with full(ray, disk) as holder:
                    stage.begin(ray, roots[0]).finish()
                    say(f"{name}: finished, with a full object store")
                    check_result(stage, roots[0], expected)
                    resize(disk, used_bytes(disk))
                    holder.fill()
                    log = stage.begin(ray, roots[1]).finish(1)
                    errors = [line for line in log.splitlines() if line.startswith("aitax: ")]
                    say(f"{name} says: {errors}")
                    check(len(errors) == 1 and "Traceback" not in log, "the error is one line")
                    check("no room left" in errors[0] and "same command" in errors[0], "it says what to do")
                    resize(disk, LARGE)
                stage.begin(ray, roots[1]).finish()
                say(f"{name}: finished, after room was made")
                check_result(stage, roots[1], expected)
    say("all is as it should be")


class Holder:
    """A process that holds more objects than the store has room for."""

    def __init__(self, ray: Cluster) -> None:
        command = [sys.executable, "-c", HOLD, ray.address, str(STORE_BYTES)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=ray.environment, **pipes)
        self._wait_for("full")

    def fill(self) -> None:
        """Fill what the store has left, when Ray cannot spill any more."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._wait_for("no room")

    def end(self) -> None:
        """Let all go, after it was read."""
        self.process.communicate()
        check(self.process.returncode == 0, "what was put into the object store can be read back")

    def _wait_for(self, state: str) -> None:
        assert self.process.stdout is not None
        check(any(line == f"{state}\n" for line in self.process.stdout), f"object store: {state}")


@contextlib.contextmanager
def full(ray: Cluster, disk: Path) -> Iterator[Holder]:
    """Keep the object store full meanwhile."""
    holder = Holder(ray)
    try:
        spilled = used_bytes(disk)
        check(spilled > STORE_BYTES, f"{spilled / 1e6:.0f} MB are spilled")
        yield holder
        holder.end()
    finally:
        holder.process.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
