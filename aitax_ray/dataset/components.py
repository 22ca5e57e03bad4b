"""Connected components: nodes that are linked, directly or through others."""

import numpy as np
from numpy.typing import NDArray


def components(num: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the smallest member of each node's component, for nodes 0..num-1 and the links first[i] - second[i].

    Every node takes the smallest that it or a neighbour knows, and follows it to what that one knows, until nothing
    changes: some log(num) rounds of whole-array steps.
    """
    known: NDArray[np.int64] = np.arange(num)
    while True:
        a, b = known[first], known[second]
        differ = a != b
        if not differ.any():
            return known
        first, second = first[differ], second[differ]
        low, high = np.minimum(a, b)[differ], np.maximum(a, b)[differ]
        np.minimum.at(known, high, low)
        while not np.array_equal(known, further := known[known]):
            known = further
