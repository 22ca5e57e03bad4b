"""The raylet of the second node is killed in the middle of a stage: the stage finishes, with the same result.

python -m tests.faults.node_dies [download] [index] [evaluate] [train]
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.cluster import cluster, say
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web


def main(names: list[str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web, cluster() as ray:
        folder = Path(scratch)
        say("a head is there")
        for stage, is_tried in chosen(names, web, folder):
            other = ray.add()
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


if __name__ == "__main__":
    main(sys.argv[1:])
