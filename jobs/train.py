"""`python -m jobs.train --root ROOT ...`: the train stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
