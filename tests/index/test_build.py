import re
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.errors import SettingsError
from aitax_ray.index.build import MIN_FOR_TREE, SearchOptions, build_index
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.searcher import Searcher
from tests.index.vectors import build, clustered_vectors, near, random_vectors, recall, write_vectors

VECTORS = clustered_vectors(MIN_FOR_TREE + 300)


def test_the_search_reaches_the_recall_that_is_asked_for_and_tells_what_it_finds(tmp_path: Path) -> None:
    indexed, queries = np.delete(VECTORS, np.s_[::18], axis=0), VECTORS[::18]
    for asked in (0.9, 0.99):
        info = build(tmp_path / str(asked), indexed, recall=asked)
        assert SearchInfo.read(tmp_path / str(asked)) == info
        assert info.measured.recall_at_10 >= asked
        # The queries of the build are vectors of the index. What they tell holds for photographs that are not in it.
        found, _ = Searcher(tmp_path / str(asked), len(indexed)).search(queries, 10)
        assert recall(found, indexed, queries) == pytest.approx(info.measured.recall_at_10, abs=0.03)
        assert info.measured.recall_at_1 > 0.9
        assert info.measured.recall_at_100 > 0.8
        assert info.measured.leaves_recall_at_10 >= asked
        assert info.measured.queries_per_second > 0
        assert 2 * 32 < info.measured.bytes_per_vector < 3 * 32
        assert 0 < info.measured.build_s < 600


def test_a_larger_recall_searches_more(tmp_path: Path) -> None:
    vectors = random_vectors(MIN_FOR_TREE)
    searched = [build(tmp_path, vectors, recall=asked).scann for asked in (0.5, 0.95)]
    assert searched[0] is not None
    assert searched[1] is not None
    assert searched[0].leaves_to_search < searched[1].leaves_to_search


def test_what_is_set_by_hand_is_searched(tmp_path: Path) -> None:
    info = build(tmp_path, VECTORS, leaves=40, leaves_to_search=0.1, reorder=25)
    assert info.scann is not None
    assert (info.scann.leaves, info.scann.leaves_to_search, info.scann.reorder) == (40, 4, 25)


def test_a_build_that_misses_its_recall_names_what_would_reach_it(tmp_path: Path) -> None:
    vectors = random_vectors(MIN_FOR_TREE)
    with pytest.raises(SettingsError) as error:
        build(tmp_path, vectors, recall=0.9, leaves_to_search=0.02, reorder=10)
    assert re.search(
        r"finds 0\.\d+ of the 10 nearest, less than --recall 0\.9: set --leaves-to-search", str(error.value)
    )
    numbers = re.search(r"--leaves-to-search ([\d.]+) and --reorder (\d+)", str(error.value))
    assert numbers is not None
    share, reorder = float(numbers[1]), int(numbers[2])
    assert build(tmp_path, vectors, recall=0.9, leaves_to_search=share, reorder=reorder).measured.recall_at_10 >= 0.9
    # Without --recall the same settings are a wish.
    assert build(tmp_path, vectors, leaves_to_search=0.02, reorder=10).measured.recall_at_10 < 0.9


def test_a_build_that_misses_its_memory_names_how_much_would_do(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"needs 0\.0873 MB of memory, more than --memory allows: set --memory 88kB"
    ):
        build(tmp_path, VECTORS, memory=1000)
    info = build(tmp_path, VECTORS, memory=500_000)
    assert info.measured.bytes_per_vector * len(VECTORS) <= 500_000


def test_shards_share_the_memory(tmp_path: Path) -> None:
    write_vectors(tmp_path, VECTORS)
    alone = build_index(tmp_path, SearchOptions(memory=500_000))
    tenth = build_index(tmp_path, SearchOptions(memory=500_000, num_vectors=2 * len(VECTORS)))
    assert alone.scann is not None
    assert tenth.scann is not None
    assert (alone.scann.in_memory, tenth.scann.in_memory) == (True, False)


def test_main_components_make_the_search_small(tmp_path: Path) -> None:
    full = build(tmp_path, VECTORS)
    info = build(tmp_path, VECTORS, compression=16)
    assert info.compression is not None
    assert info.compression.dimensions == 16
    assert 0.4 < info.compression.variance_kept < 1
    assert info.measured.bytes_per_vector < full.measured.bytes_per_vector / 3
    queries = near(VECTORS)
    assert recall(Searcher(tmp_path, len(VECTORS)).search(queries, 10)[0], VECTORS, queries) > 0.85
    # An earlier search leaves no file that the next one would read.
    few = build(tmp_path, VECTORS[:3])
    assert few.method == "exact"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["search.json", "vectors.npy"]


def test_equal_vectors_are_built_and_searched(tmp_path: Path) -> None:
    vectors = np.repeat(random_vectors(4), MIN_FOR_TREE // 4, axis=0)
    assert build(tmp_path, vectors, recall=0.9).measured.recall_at_100 == 1
    assert Searcher(tmp_path, len(vectors)).search(vectors[:3], 10)[1].min() > 0.99
