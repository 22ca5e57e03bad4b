"""`python -m jobs.evaluate --root ROOT ...`: the evaluate stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
