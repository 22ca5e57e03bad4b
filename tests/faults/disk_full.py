"""The disk of ROOT fills up in the middle of a stage: an error says so, and with more room the same command goes on.

python -m tests.faults.disk_full [download] [split] [index] [evaluate] [publish] [train]   as root: the disk is a tmpfs
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.cluster import check, cluster, say
from tests.faults.disk import LARGE, mounted, resize, used_bytes
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web


def main(names: list[str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web, cluster() as ray:
        folder = Path(scratch)
        with mounted(folder / "disk") as disk:
            for stage, is_tried in chosen(names, web, folder, on_ray=False):
                expected = run_undisturbed(ray, stage, folder)
                if not is_tried:
                    continue
                name, root = stage.name, disk / stage.name
                stage.prepare(root)
                resize(disk, used_bytes(disk) + stage.room_bytes)
                say(f"{name}: the disk has {stage.room_bytes:,} bytes left")
                log = stage.begin(ray, root).finish(1)
                last = log.strip().splitlines()[-1]
                say(f"{name} says: {last}")
                check(last.startswith("aitax: ") and "Traceback" not in log, "the error is one line")
                check("make room" in last, "it says what to do")
                resize(disk, LARGE)
                stage.begin(ray, root).finish()
                say(f"{name}: finished, after room was made")
                check_result(stage, root, expected)
    say("all is as it should be")


if __name__ == "__main__":
    main(sys.argv[1:])
