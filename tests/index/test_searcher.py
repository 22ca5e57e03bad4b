import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.errors import EngineError
from aitax_ray.index import scann_tree
from aitax_ray.index.build import MIN_FOR_TREE
from aitax_ray.index.searcher import VECTORS, Searcher
from tests.index.vectors import build, clustered_vectors, near, random_vectors, recall, write_vectors

VECTORS_OF_A_TREE = clustered_vectors(MIN_FOR_TREE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "engine"
    build(folder, VECTORS_OF_A_TREE)
    return folder


@pytest.fixture
def without_scann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scann", None)


@pytest.mark.parametrize("num", [1, 2, 17, 300])
def test_few_vectors_are_searched_exactly(num: int, tmp_path: Path) -> None:
    vectors, queries = random_vectors(num), random_vectors(5, seed=9)
    build(tmp_path, vectors)
    searcher = Searcher(tmp_path, num)
    neighbors, similarities = searcher.search(queries, 12)
    cosines = queries @ vectors.astype(np.float16).astype(np.float32).T
    assert searcher.method == "exact"
    assert neighbors.shape == similarities.shape == (5, min(12, num))
    assert (neighbors.dtype, similarities.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(neighbors, np.argsort(-cosines, axis=1)[:, :12])
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :12], atol=1e-3)
    assert not (tmp_path / scann_tree.SCANN).exists()


def test_queries_of_any_layout_are_taken(tmp_path: Path) -> None:
    vectors = random_vectors(20)
    build(tmp_path, vectors)
    neighbors, similarities = Searcher(tmp_path, 20).search(np.asfortranarray(vectors[::3].astype(np.float64)), 1)
    assert neighbors.ravel().tolist() == list(range(0, 20, 3))
    np.testing.assert_allclose(similarities, 1, atol=1e-3)


def test_many_vectors_are_searched_through_a_tree_that_finds_most(tree: Path) -> None:
    searcher = Searcher(tree, MIN_FOR_TREE)
    queries = near(VECTORS_OF_A_TREE)
    neighbors, similarities = searcher.search(queries, 10)
    assert searcher.method == "scann"
    assert recall(neighbors, VECTORS_OF_A_TREE, queries) >= 0.9
    assert recall(searcher.search(queries, 100)[0], VECTORS_OF_A_TREE, queries) >= 0.85
    # The best are measured exactly, and come in order.
    expected = np.einsum("nd,nkd->nk", queries, VECTORS_OF_A_TREE[neighbors])
    np.testing.assert_allclose(similarities, expected, atol=3e-3)
    assert (np.diff(similarities, axis=1) <= 1e-6).all()
    again, _ = searcher.search(queries[:1], 10)
    np.testing.assert_array_equal(again[0], neighbors[0])


def test_each_photograph_finds_itself(tree: Path) -> None:
    neighbors, similarities = Searcher(tree, MIN_FOR_TREE).search(VECTORS_OF_A_TREE, 1)
    assert (neighbors[:, 0] == np.arange(MIN_FOR_TREE)).mean() > 0.98
    np.testing.assert_allclose(similarities[neighbors[:, 0] == np.arange(MIN_FOR_TREE)], 1, atol=5e-3)


def test_more_neighbours_than_vectors_are_all_that_there_are(tree: Path) -> None:
    neighbors, similarities = Searcher(tree, MIN_FOR_TREE).search(VECTORS_OF_A_TREE[:2], MIN_FOR_TREE + 7)
    assert neighbors.shape == (2, MIN_FOR_TREE)
    assert (np.sort(neighbors, axis=1) == np.arange(MIN_FOR_TREE)).all()
    assert not np.isnan(similarities).any()


def test_neighbours_that_are_not_found_are_marked(tree: Path) -> None:
    neighbors, similarities = Searcher(tree, MIN_FOR_TREE).search_scann(VECTORS_OF_A_TREE[:20], 400, 1, 400)
    missing = neighbors < 0
    assert missing.any()
    np.testing.assert_array_equal(missing, np.isnan(similarities))
    assert not missing[:, 0].any()
    assert (np.diff(missing.astype(int), axis=1) >= 0).all()  # they come last
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in neighbors)


def test_candidates_are_read_from_the_file_where_memory_is_scarce(tmp_path: Path) -> None:
    info = build(tmp_path, VECTORS_OF_A_TREE, memory=MIN_FOR_TREE * 40)
    assert info.scann is not None
    assert not info.scann.in_memory
    searcher, queries = Searcher(tmp_path, MIN_FOR_TREE), near(VECTORS_OF_A_TREE)
    neighbors, similarities = searcher.search(queries, 10)
    assert recall(neighbors, VECTORS_OF_A_TREE, queries) >= 0.9
    expected = np.einsum("nd,nkd->nk", queries, VECTORS_OF_A_TREE.astype(np.float16).astype(np.float32)[neighbors])
    np.testing.assert_allclose(similarities, expected, atol=1e-5)
    missing, similarities = searcher.search_scann(queries, 400, 1, 400)
    np.testing.assert_array_equal(missing < 0, np.isnan(similarities))
    assert (missing < 0).any()


def test_an_index_of_main_components_answers_by_the_full_vectors(tmp_path: Path) -> None:
    latent = clustered_vectors(MIN_FOR_TREE, 8)
    vectors = latent @ np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0][:8].astype(np.float32)
    info = build(tmp_path, vectors, compression=0.99)
    assert info.compression is not None
    assert info.compression.dimensions <= 8
    queries = near(vectors)
    neighbors, similarities = Searcher(tmp_path, MIN_FOR_TREE).search(queries, 10)
    assert recall(neighbors, vectors, queries) >= 0.9
    np.testing.assert_allclose(similarities, np.einsum("nd,nkd->nk", queries, vectors[neighbors]), atol=2e-3)


def test_an_index_can_be_moved(tree: Path, tmp_path: Path) -> None:
    before = Searcher(tree, MIN_FOR_TREE).search(VECTORS_OF_A_TREE[:5], 3)
    shutil.copytree(tree, tmp_path / "there")
    after = Searcher(tmp_path / "there", MIN_FOR_TREE).search(VECTORS_OF_A_TREE[:5], 3)
    np.testing.assert_array_equal(after[0], before[0])


def test_without_scann_the_same_index_gives_the_same_answers(tree: Path, without_scann: None) -> None:
    searcher, queries = Searcher(tree, MIN_FOR_TREE), near(VECTORS_OF_A_TREE)
    neighbors, similarities = searcher.search(queries, 10)
    assert searcher.method == "leaves"
    assert recall(neighbors, VECTORS_OF_A_TREE, queries) >= 0.9
    np.testing.assert_allclose(similarities, np.einsum("nd,nkd->nk", queries, VECTORS_OF_A_TREE[neighbors]), atol=2e-3)
    shutil.rmtree(tree.parent / "mac", ignore_errors=True)
    copy = shutil.copytree(tree, tree.parent / "mac", ignore=shutil.ignore_patterns(scann_tree.SCANN))
    np.testing.assert_array_equal(Searcher(copy, MIN_FOR_TREE).search(queries, 10)[0], neighbors)
    assert Searcher(tree, MIN_FOR_TREE).search(queries[:1], 9999)[0].shape == (1, MIN_FOR_TREE)


def test_a_process_without_scann_builds_and_searches(tmp_path: Path) -> None:
    write_vectors(tmp_path, VECTORS_OF_A_TREE)
    code = (
        "import sys; sys.modules['scann'] = None\n"
        "from pathlib import Path; import numpy as np\n"
        "from aitax_ray.index.build import build_index; from aitax_ray.index.searcher import Searcher\n"
        f"folder = Path({str(tmp_path)!r}); info = build_index(folder)\n"
        f"vectors = np.load(folder / {VECTORS!r}); found, _ = Searcher(folder, len(vectors)).search(vectors[:200], 2)\n"
        "assert (found[:, 0] == np.arange(200)).all(), found\n"
        "print(info.method, info.measured.recall_at_10 >= 0.94)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.stdout.split() == ["leaves", "True"], done.stderr
    # An index that was built on a Mac works where ScaNN is.
    assert Searcher(tmp_path, MIN_FOR_TREE).method == "leaves"


def damage(folder: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    elif (folder / name).is_dir():
        shutil.rmtree(folder / name)
    else:
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("search.json", None),
        ("search.json", b"{"),
        ("search.json", b'{"format": 9}'),
        ("vectors.npy", None),
        ("vectors.npy", b"rubbish"),
        ("scann", None),
        ("scann/scann_config.pb", None),
        ("scann/scann_assets.pbtxt", None),
        ("scann/scann_docids.pkl", b"cos\nsystem\n(S'touch stolen'\ntR."),
    ],
)
def test_a_damaged_index_is_refused_with_the_remedy(
    tree: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    copy = shutil.copytree(tree, tmp_path / "engine")
    damage(copy, name, content)
    with pytest.raises(EngineError, match="publish the engine again"):
        Searcher(copy, MIN_FOR_TREE)


@pytest.mark.parametrize(("name", "content"), [("leaf_rows.npy", None), ("leaf_centres.npy", b"rubbish")])
def test_damaged_leaves_are_refused_with_the_remedy(
    tree: Path, tmp_path: Path, without_scann: None, name: str, content: bytes | None
) -> None:
    copy = shutil.copytree(tree, tmp_path / "engine")
    damage(copy, name, content)
    with pytest.raises(EngineError, match="publish the engine again"):
        Searcher(copy, MIN_FOR_TREE)


def test_a_search_of_other_vectors_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"of 5,000 vectors of 32 numbers, not of these 4,999 rows"):
        Searcher(tree, MIN_FOR_TREE - 1)
    copy = shutil.copytree(tree, tmp_path / "engine")
    build(tmp_path / "other", clustered_vectors(MIN_FOR_TREE + 1))
    shutil.rmtree(copy / "scann")
    shutil.copytree(tmp_path / "other" / "scann", copy / "scann")
    with pytest.raises(EngineError, match=r"ScaNN's files in .* are not those of its 5,000 vectors"):
        Searcher(copy, MIN_FOR_TREE)
