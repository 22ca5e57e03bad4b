"""`python -m jobs.manifest --root ROOT ...`: the manifest stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["manifest", *sys.argv[1:]])
