"""Assign groups to train, val and test.

A group draws a number in [0, 1) from a hash of (seed, name of the group); below `test` it is for test, above that and
below `test` + `val` for validation. So what is added to an archive changes nothing for what was there, unless it links
two groups.

A species that drew no group for a side gets one: of two or more groups one is for validation, of three or more one for
test, and one always stays for training. These minimums depend on how many groups a species has,
and so change as the archive grows. The groups that were in test before are therefore passed in as `earlier`, and stay
there.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

TRAIN, VAL, TEST = 0, 1, 2
SIDES = ("train", "val", "test")


def draw(seed: int, keys: Iterable[str]) -> NDArray[np.float64]:
    """Draw a number in [0, 1) for each key from sha256 of the seed and the key."""
    numbers = (int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") for key in keys)
    return (np.fromiter(numbers, np.uint64) >> np.uint64(11)) / 2.0**53


def assign(
    drawn: NDArray[np.float64],
    members: tuple[NDArray[np.int64], NDArray[np.int64]],
    val: float,
    test: float,
    earlier: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Assign each of n groups a side (TRAIN, VAL or TEST).

    INPUT: `drawn`, a number per group; `members`, species (numbered) and group of each pair of them that has
    photographs; `earlier`, the groups that stay in test. A share of 0 switches a side off. Rare species are served
    first; where species share their groups, a later one may be left without.
    """
    sides = np.where(drawn < test, TEST, np.where(drawn < test + val, VAL, TRAIN)).astype(np.int8)
    fixed = np.zeros(len(drawn), bool)
    if earlier is not None:
        sides[earlier], fixed = TEST, earlier.copy()
    species, groups = members
    order = np.lexsort((drawn[groups], species))
    species, groups = species[order], groups[order]
    begins = np.flatnonzero(np.diff(species, prepend=-1))
    ends = np.append(begins[1:], len(species))
    for number in np.argsort(ends - begins, kind="stable"):
        own = groups[begins[number] : ends[number]]  # by what they drew
        # Training is the first to be served, and takes what drew the largest number.
        wanted = [(TRAIN, own[::-1], 1, True), (TEST, own, 3, test > 0), (VAL, own, 2, val > 0)]
        for side, candidates, least, is_on in wanted:
            if not is_on or len(own) < least:
                continue
            having = candidates[sides[candidates] == side]
            if not len(having):
                free = candidates[~fixed[candidates]]
                if not len(free):
                    continue
                # Validation takes what is in test only where there is nothing else.
                having = free[np.argsort((sides[free] == TEST) & (side == VAL), kind="stable")]
                sides[having[0]] = side
                having = having[:1]
            if not fixed[having].any():
                fixed[having[0]] = True
        if len(own) < 3:  # no test is due
            spare = own[(sides[own] == TEST) & ~fixed[own]]
            sides[spare] = TRAIN
            fixed[spare] = True
    return sides
