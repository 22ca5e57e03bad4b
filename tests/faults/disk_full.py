"""The disk of ROOT fills up in the middle of a stage: an error says so, and with more room the same command goes on.

python -m tests.faults.disk_full [download] [split] [index] [evaluate] [publish] [train]   as root: the disk is a tmpfs
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.cluster import check, cluster, say
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web

LARGE = "4g"


def main(names: list[str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web, cluster() as ray:
        folder, disk = Path(scratch), Path(scratch) / "disk"
        disk.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", disk)
        try:
            for stage, is_tried in chosen(names, web, folder, on_ray=False):
                expected = run_undisturbed(ray, stage, folder)
                if not is_tried:
                    continue
                name, root = stage.name, disk / stage.name
                stage.prepare(root)
                used = int(_run("df", "-B1", "--output=used", disk).split()[-1])
                _run("mount", "-o", f"remount,size={used + stage.room_bytes}", disk)
                say(f"{name}: the disk has {stage.room_bytes:,} bytes left")
                log = stage.begin(ray, root).finish(1)
                last = log.strip().splitlines()[-1]
                say(f"{name} says: {last}")
                check(last.startswith("aitax: ") and "Traceback" not in log, "the error is one line")
                check("make room" in last, "it says what to do")
                _run("mount", "-o", f"remount,size={LARGE}", disk)
                stage.begin(ray, root).finish()
                say(f"{name}: finished, after room was made")
                check_result(stage, root, expected)
        finally:
            _run("umount", "-l", disk)
    say("all is as it should be")


def _run(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
