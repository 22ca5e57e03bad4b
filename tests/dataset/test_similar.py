import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from aitax_ray.dataset import similar as module
from aitax_ray.dataset.similar import clusters

Hashes = NDArray[np.uint8]


def random_hashes(num: int, seed: int = 0) -> Hashes:
    return np.random.default_rng(seed).integers(0, 256, (num, 32), np.uint8)


def altered(hashes: Hashes, distance: int, seed: int = 1) -> Hashes:
    """The same with so many bits of each turned."""
    chance, bits = np.random.default_rng(seed), np.unpackbits(hashes, axis=1)
    for row in bits:
        row[chance.permutation(256)[:distance]] ^= 1
    return np.packbits(bits, axis=1)


@pytest.mark.parametrize("distance", [0, 4, 8, 16])
def test_what_is_near_is_found_and_what_is_not_is_not(distance: int) -> None:
    hashes = random_hashes(3000)
    found = clusters(np.concatenate([hashes, altered(hashes, distance)]), 16)
    pairs = found[:3000] == found[3000:]
    assert pairs.mean() > 0.999
    assert (found[:3000] == np.arange(3000)).all()  # random ones are some 128 bits from each other


def test_what_is_beyond_the_distance_is_another_cluster() -> None:
    hashes = random_hashes(500)
    found = clusters(np.concatenate([hashes, altered(hashes, 17)]), 16)
    assert len(np.unique(found)) == 1000


def test_a_cluster_is_what_is_linked_over_others() -> None:
    chain = [random_hashes(1)]
    for step in range(9):
        chain.append(altered(chain[-1], 10, seed=step))
    assert clusters(np.concatenate(chain), 10).tolist() == [0] * 10


def crowded_hashes() -> Hashes:
    """Hashes that differ in few bits, as those of photographs on one backdrop do."""
    hashes = random_hashes(400)
    hashes[:, 4:] = hashes[0, 4:]
    return hashes


def test_all_pairs_say_the_same() -> None:
    hashes = crowded_hashes()
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    expected = np.arange(400)
    for _ in range(400):
        lowest = np.where(distance <= 7, expected[None], 400).min(axis=1)
        if (lowest == expected).all():
            break
        expected = lowest
    assert clusters(hashes, 7).tolist() == expected.tolist()


def test_what_is_found_does_not_depend_on_how_many_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS", 1)  # no other key finds what this one misses
    hashes = crowded_hashes()
    expected = clusters(hashes, 7)
    assert len(np.unique(expected)) < 380
    monkeypatch.setattr(module, "COMPARED_AT_ONCE", 64)
    monkeypatch.setattr(module, "SAMPLED_AT_ONCE", 64)
    assert clusters(hashes, 7).tolist() == expected.tolist()


def test_many_with_one_key_take_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMPARED", 4)
    hashes = np.repeat(random_hashes(1), 2000, axis=0)
    hashes[:, :2] = np.arange(2000, dtype=np.uint16)[:, None].view(np.uint8).reshape(-1, 2)
    found = clusters(np.concatenate([hashes, hashes]), 16)
    assert (found[:2000] == found[2000:]).all()
    assert len(np.unique(found)) < 200  # most of them, though each was compared with few


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_are_no_special_case(num: int) -> None:
    assert clusters(np.repeat(random_hashes(1), num, axis=0), 16).tolist() == [0] * num


def test_photographs_that_are_all_near_each_other_take_little_memory() -> None:
    backdrop = np.repeat(random_hashes(1), 4000, axis=0)
    hashes = altered(backdrop, 6)
    tracemalloc.start()
    try:
        found = clusters(hashes, 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not found.any()
    assert peak < 200e6  # the pairs alone would take 400 MB
