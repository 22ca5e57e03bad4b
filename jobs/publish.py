"""`python -m jobs.publish --root ROOT ...`: the publish stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["publish", *sys.argv[1:]])
