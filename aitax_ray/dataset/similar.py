"""Pairs of perceptual hashes that differ in few bits, found without comparing all with all.

Bit sampling (P. Indyk and R. Motwani, Approximate Nearest Neighbors, 1998): hashes that differ in d of their 256 bits
agree in k bits drawn at random with probability (1 - d/256)^k. So they are sorted by several such keys, and only those
with an equal key are compared. With 24 keys of 24 bits, as for 16 million hashes, a pair at distance 8 is missed in
one of 10^6 cases, one at distance 16 in one of 260; with fewer hashes keys are shorter and less is missed.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from aitax_ray.dataset.components import components

Hashes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

KEYS, MIN_KEY_BITS, MAX_KEY_BITS = 24, 12, 24
# Of hashes with an equal key each is compared with so many that follow it in the order of further bits. Natural
# photographs rarely fill this; it bounds the time when an archive holds a hundred thousand of one backdrop.
MAX_COMPARED = 256
COMPARED_AT_ONCE = 1 << 19
SAMPLED_AT_ONCE = 1 << 15  # hashes that fit into a processor's cache
WORDS = 4  # of 64 bits in a hash
MAX_THREADS = 4  # each holds a number of 64 bits per hash


def clusters(hashes: Hashes, max_distance: int) -> NDArray[np.int64]:
    """Number each of n hashes (uint8, n x 32) by the first one of its cluster.

    A cluster is what is linked by distances of at most `max_distance` bits, directly or over others. Takes some 50
    bytes per hash beside the hashes, however many are near each other.
    """
    num, num_bytes = hashes.shape
    words = np.ascontiguousarray(hashes).view(np.uint64)
    firsts = _firsts(words)
    own = np.flatnonzero(firsts == np.arange(num))
    unique = words if len(own) == num else words[own]
    del words, hashes
    drawn = np.random.default_rng(0)
    keys = [drawn.permutation(8 * num_bytes)[:MAX_KEY_BITS] for _ in range(KEYS)]
    num_bits = int(np.clip(np.ceil(np.log2(max(1, len(unique)))), MIN_KEY_BITS, MAX_KEY_BITS))
    # NumPy sorts and counts without the interpreter's lock.
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
        found = threads.map(
            lambda key: _pairs(unique, key[1][:num_bits], key[0] % WORDS, max_distance), enumerate(keys)
        )
        # One key after the other: each finds nearly the same pairs.
        first, second = reduce(lambda known, new: _spanning(len(unique), [known, new]), found)
    firsts[own[first]] = own[second]
    result: NDArray[np.int64] = firsts[firsts]  # equal hashes follow the first of them
    return result


def _firsts(words: Words) -> NDArray[np.int64]:
    """Number each hash by the first one that is equal."""
    num = len(words)
    # Equal hashes have an equal sum: only those with one are compared.
    mixed = words @ np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
    ordered = np.sort(mixed)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    some = np.flatnonzero(np.isin(mixed, repeated)) if len(repeated) else np.empty(0, np.int64)
    del mixed
    firsts = np.arange(num)
    order = some[np.lexsort(words[some].T)]  # stable: the first of equal ones comes first
    is_new = np.ones(len(order), bool)
    is_new[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    firsts[order] = order[is_new][np.cumsum(is_new) - 1]
    return firsts


def _pairs(words: Words, bits: NDArray[np.int64], word: int, max_distance: int) -> Pairs:
    """Of the hashes that agree in `bits`, those that are near each other; ordered by `word` where many agree.

    Hashes are sorted as one number of 64 bits: the sampled bits, as many bits of `word` as there is room for, and the
    hash's number. To sort numbers takes a third of the time of sorting an order.
    """
    num = len(words)
    number_bits = np.uint64(max(1, num - 1).bit_length())
    key_bits = np.uint64(len(bits))
    packed = np.empty(num, np.uint64)
    for start in range(0, num, SAMPLED_AT_ONCE):
        some = words[start : start + SAMPLED_AT_ONCE]
        further = some[:, word] >> (key_bits + number_bits) << number_bits
        numbers = np.arange(start, start + len(some), dtype=np.uint64)
        packed[start : start + len(some)] = (_sample(some, bits) << (np.uint64(64) - key_bits)) | further | numbers
    packed.sort()
    mask, drop = (np.uint64(1) << number_bits) - np.uint64(1), np.uint64(64) - key_bits
    found, num_found = list[Pairs](), 0
    for start in range(0, num, COMPARED_AT_ONCE):
        some = packed[start : start + COMPARED_AT_ONCE + MAX_COMPARED]
        keys, order = some >> drop, (some & mask).astype(np.int64)
        equal = np.arange(min(COMPARED_AT_ONCE, len(some)))
        for step in range(1, MAX_COMPARED + 1):
            equal = equal[: np.searchsorted(equal, len(some) - step)]
            equal = equal[keys[equal] == keys[equal + step]]
            if not len(equal):
                break
            one, other = order[equal], order[equal + step]
            # Most are far in the first quarter already.
            near = np.bitwise_count(words[one, 0] ^ words[other, 0]) <= max_distance
            one, other = one[near], other[near]
            near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1, dtype=np.int64) <= max_distance
            found.append((one[near], other[near]))
            num_found += len(found[-1][0])
            if num_found > num + COMPARED_AT_ONCE:  # of photographs on one backdrop nearly all pairs are near
                found = [_spanning(num, found)]
                num_found = len(found[0][0])
    return _spanning(num, found)


def _sample(words: Words, bits: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Some bits of each hash as one number."""
    columns = np.ascontiguousarray(words.view(np.uint8)[:, bits >> 3].T)
    masks = np.uint8(128) >> (bits & 7).astype(np.uint8)
    sampled = np.zeros(len(words), np.uint64)
    for begin in range(0, len(bits), 8):
        group, byte = slice(begin, begin + 8), np.zeros(len(words), np.uint8)
        for column, mask in zip(columns[group], masks[group], strict=True):
            byte += byte
            byte += (column & mask) != 0
        sampled = (sampled << np.uint64(len(columns[group]))) | byte
    return sampled


def _spanning(num: int, pairs: Iterable[Pairs]) -> Pairs:
    """Fewer pairs that link the same of `num` nodes: each but the first of a component with that first."""
    none = np.empty(0, np.int64)
    first, second = (np.concatenate([none, *side]) for side in zip((none, none), *pairs, strict=True))
    # Few are linked: only these are numbered.
    is_node = np.zeros(num, bool)
    is_node[first] = is_node[second] = True
    nodes = np.flatnonzero(is_node)
    places = np.cumsum(is_node, dtype=np.uint32)
    places -= np.uint32(1)
    lowest = components(len(nodes), *(places[side].astype(np.int64) for side in (first, second)))
    is_linked = lowest != np.arange(len(nodes))
    return nodes[is_linked], nodes[lowest[is_linked]]
