"""`python -m jobs.pipeline --root ROOT ...`: every stage, manifest to publish, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["build", *sys.argv[1:]])
