"""`python -m jobs.download --root ROOT ...`: the download stage, for `ray job submit --working-dir .`."""

import sys

from aitax_ray.cli import main

if __name__ == "__main__":
    main(["download", *sys.argv[1:]])
