import sys
from pathlib import Path

import pytest

from aitax_ray.index.scann_tree import ScannTree, default_leaves, is_available, memory_of
from tests.index.vectors import clustered_vectors, unit

VECTORS = clustered_vectors(2000)


def test_a_tree_that_is_written_and_loaded_adds_and_deletes(tmp_path: Path) -> None:
    for in_memory in (True, False):
        folder = tmp_path / str(in_memory)
        folder.mkdir()
        ScannTree.build(VECTORS[:1500], 20, in_memory).write(folder)
        tree = ScannTree.load(folder, in_memory)
        tree.add(VECTORS[1500:])
        tree.delete([1999, 3])  # the last one, then one whose number vector 1998 gets
        assert len(tree) == 1998
        numbers, _ = tree.search(VECTORS, 20, 20, 100)
        assert numbers.max() == 1997
        assert all(n in numbers[n] for n in (0, 2, 4, 1700, 1997))
        assert 3 in numbers[1998]
    sizes = [memory_of(tmp_path / name) for name in ("True", "False")]
    assert sizes[0] - sizes[1] == pytest.approx(1500 * 32 * 2, rel=0.05)


def test_whether_scann_is_there_and_how_many_leaves_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_available()
    monkeypatch.setitem(sys.modules, "scann", None)
    assert not is_available()
    assert [default_leaves(num) for num in (1, 5000, 500_000)] == [1, 71, 707]


def test_a_size_that_no_code_of_four_divides_is_built() -> None:
    for size in (3, 6):
        vectors = unit(VECTORS[:, :size])
        numbers, _ = ScannTree.build(vectors, 20, True).search(vectors[:5], 30, 20, 500)
        assert all(n in row for n, row in enumerate(numbers.tolist()))
