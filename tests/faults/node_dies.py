"""The raylet of the second node is killed in the middle of a stage: the stage finishes, with the same result.

python -m tests.faults.node_dies [--clock-ahead] [download] [index] [evaluate] [train]

With --clock-ahead the clock of the second node is an hour ahead (Debian's package `faketime`).
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.cluster import check, cluster, say
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web

AHEAD = "--clock-ahead"


def main(names: list[str], environment: dict[str, str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web, cluster() as ray:
        folder = Path(scratch)
        say("a head is there")
        for stage, is_tried in chosen(names, web, folder):
            other = ray.add(**environment)
            say("a second node is there")
            expected = run_undisturbed(ray, stage, folder)
            if is_tried:
                root = folder / f"{stage.name}-disturbed"
                stage.prepare(root)
                command = stage.begin(ray, root)
                stage.wait_for_the_middle(command, root, other)
                other.kill_raylet()
                say(f"{stage.name}: the second node was killed")
                command.finish()
                say(f"{stage.name}: finished")
                check_result(stage, root, expected)
            other.kill()
    say("all is as it should be")


def an_hour_ahead() -> dict[str, str]:
    """The environment of processes whose clock is an hour ahead. Times of files are the kernel's."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    check(found, "libfaketime is installed")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


if __name__ == "__main__":
    given = [name for name in sys.argv[1:] if name != AHEAD]
    main(given, an_hour_ahead() if AHEAD in sys.argv else {})
