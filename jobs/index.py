"""`python -m jobs.index --root ROOT ...`: the index stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["index", *sys.argv[1:]])
