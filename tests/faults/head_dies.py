"""The head dies in the middle of a stage: the command ends, and the same command on a new cluster goes on.

python -m tests.faults.head_dies [download] [index] [evaluate] [train]
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.cluster import check, cluster, say
from tests.faults.stages import check_result, chosen, run_undisturbed
from tests.web import Web


def main(names: list[str]) -> None:
    """Try the stages with these names; all of them if none is named."""
    with tempfile.TemporaryDirectory() as scratch, Web() as web:
        folder = Path(scratch)
        for stage, is_tried in chosen(names, web, folder):
            name, root = stage.name, folder / f"{stage.name}-disturbed"
            with cluster() as ray:
                expected = run_undisturbed(ray, stage, folder)
                if not is_tried:
                    continue
                stage.prepare(root)
                command = stage.begin(ray, root)
                stage.wait_for_the_middle(command, root, ray.head)
                ray.head.kill()
                say(f"{name}: the head was killed")
                log = command.finish(1)
                last = log.strip().splitlines()[-1]
                say(f"{name} says: {last}")
                check(last.startswith("aitax: "), "the command says why it ended")
                check("the same command goes on" in last, "and what to do")
            with cluster() as ray:
                stage.begin(ray, root).finish()
                say(f"{name}: finished on a new cluster")
                check_result(stage, root, expected)
    say("all is as it should be")


if __name__ == "__main__":
    main(sys.argv[1:])
