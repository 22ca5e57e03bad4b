"""Pairs of perceptual hashes that differ in few bits, found without comparing all with all.

Bit sampling (P. Indyk and R. Motwani, Approximate Nearest Neighbors, 1998): hashes that differ in d of their 256 bits
agree in k bits drawn at random with probability (1 - d/256)^k. So they are sorted by several such keys, and only those
with an equal key are compared. With 24 keys of 24 bits, as for 16 million hashes, a pair at distance 8 is missed in
one of 10^6 cases, one at distance 16 in one of 260; with fewer hashes keys are shorter and less is missed.
"""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from aitax_ray.dataset.components import components

Hashes = NDArray[np.uint8]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

KEYS, MIN_KEY_BITS, MAX_KEY_BITS = 24, 12, 24
# Of hashes with an equal key each is compared with so many that follow it in the order of further bits. Natural
# photographs rarely fill this; it bounds the time when an archive holds a hundred thousand of one backdrop.
MAX_COMPARED = 256
COMPARED_AT_ONCE = 1 << 20
MAX_THREADS = 4  # each holds keys and order of all hashes


def clusters(hashes: Hashes, max_distance: int) -> NDArray[np.int64]:
    """Number each of n hashes (uint8, n x 32) by the first one of its cluster.

    A cluster is what is linked by distances of at most `max_distance` bits, directly or over others. Takes some 300
    bytes a hash, however many are near each other.
    """
    num, num_bytes = hashes.shape
    unique, of = _unique(hashes)
    del hashes
    drawn = np.random.default_rng(0)
    keys = [drawn.permutation(8 * num_bytes)[:MAX_KEY_BITS] for _ in range(KEYS)]
    num_bits = int(np.clip(np.ceil(np.log2(max(1, len(unique)))), MIN_KEY_BITS, MAX_KEY_BITS))
    columns = np.ascontiguousarray(unique.T)  # by bytes, since a key takes a bit of many
    with ThreadPoolExecutor(
        min(MAX_THREADS, os.cpu_count() or 1)
    ) as threads:  # NumPy sorts and counts without the interpreter's lock
        found = list(
            threads.map(
                lambda key: _pairs(unique, columns, key[1][:num_bits], key[0] % (num_bytes // 4), max_distance),
                enumerate(keys),
            )
        )
    first, second = (np.concatenate(side) for side in zip(*found, strict=True))
    numbers = components(len(unique), first, second)
    firsts = np.full(len(unique), num)
    np.minimum.at(firsts, numbers[of], np.arange(num))
    result: NDArray[np.int64] = firsts[numbers[of]]
    return result


def _unique(hashes: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """The different hashes, and for each hash its number among them."""
    words = np.ascontiguousarray(hashes).view(np.uint64)
    order = np.lexsort(words.T)
    ordered = words[order]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return ordered[is_new].view(np.uint8), numbers


def _pairs(hashes: Hashes, columns: Hashes, bits: NDArray[np.int64], word: int, max_distance: int) -> Pairs:
    """Of the hashes that agree in `bits`, those that are near each other; ordered by `word` where many agree."""
    sampled = np.zeros(len(hashes), np.uint64)
    for bit in bits:
        sampled = (sampled << np.uint64(1)) | ((columns[bit >> 3] >> np.uint8(7 - (bit & 7))) & np.uint8(1))
    order = np.argsort(
        (sampled << np.uint64(32)) | np.ascontiguousarray(hashes).view(np.uint32)[:, word], kind="stable"
    )
    sampled = sampled[order]
    words, found, num_found = hashes.view(np.uint64), list[Pairs](), 0
    for step in itertools.count(1):
        equal = np.flatnonzero(sampled[step:] == sampled[:-step])
        if not len(equal) or step > MAX_COMPARED:
            break
        for start in range(0, len(equal), COMPARED_AT_ONCE):
            some = equal[start : start + COMPARED_AT_ONCE]
            one, other = order[some], order[some + step]
            near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1, dtype=np.int64) <= max_distance
            found.append((one[near], other[near]))
            num_found += len(found[-1][0])
            if num_found > len(hashes) + COMPARED_AT_ONCE:  # of photographs on one backdrop nearly all pairs are near
                found = [_spanning(len(hashes), found)]
                num_found = len(found[0][0])
    return _spanning(len(hashes), found)


def _spanning(num: int, pairs: list[Pairs]) -> Pairs:
    """Fewer pairs that link the same: each but the first of a component with that first."""
    none = np.empty(0, np.int64)
    first, second = (np.concatenate([none, *side]) for side in (zip(*pairs, strict=True) if pairs else ((), ())))
    lowest = components(num, first, second)
    linked = np.flatnonzero(lowest != np.arange(num))
    return linked, lowest[linked]
