"""`python -m jobs.split --root ROOT ...`: the split stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["split", *sys.argv[1:]])
