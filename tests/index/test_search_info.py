from pathlib import Path

import pytest

from aitax_ray.errors import EngineError
from aitax_ray.index.search_info import BYTES_PER_ROW, Compression, Measured, Scann, SearchInfo, Tree, summarise

MEASURED = Measured(
    queries=9,
    recall_at_1=1,
    recall_at_10=0.9,
    recall_at_100=0.8,
    queries_per_second=100,
    bytes_per_vector=50,
    build_s=3,
    leaves_recall_at_10=1,
)
EXACT = SearchInfo(num_rows=100, dimensions=8, scann=None, tree=None, compression=None, measured=MEASURED)


def test_what_is_written_is_read_and_names_the_fastest_search(tmp_path: Path) -> None:
    tree = Tree(leaves=3, leaves_to_search=2)
    scann = Scann(leaves=3, leaves_to_search=2, reorder=9, in_memory=True, build_size=100)
    for update, method in (({}, "exact"), ({"tree": tree}, "leaves"), ({"tree": tree, "scann": scann}, "scann")):
        info = EXACT.model_copy(update=update)
        info.write(tmp_path)
        assert SearchInfo.read(tmp_path) == info
        assert info.method == method


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}'])
def test_a_broken_file_is_refused_with_the_remedy(tmp_path: Path, content: str) -> None:
    with pytest.raises(EngineError, match=r"search.json cannot be read .*: publish the engine again"):
        SearchInfo.read(tmp_path)
    (tmp_path / "search.json").write_text(content)
    with pytest.raises(EngineError, match=r"search.json cannot be read .*: publish the engine again"):
        SearchInfo.read(tmp_path)


def test_the_figures_of_shards_are_those_of_their_vectors() -> None:
    other = MEASURED.model_copy(update={"recall_at_10": 0.5, "bytes_per_vector": 10, "queries_per_second": 300})
    infos = [EXACT, EXACT.model_copy(update={"num_rows": 300, "measured": other})]
    figures = summarise(infos)
    assert figures["recall_at_10"] == pytest.approx(0.6)
    assert figures["bytes_per_vector"] == pytest.approx(20)
    assert figures["bytes_per_photograph"] == pytest.approx(20 + BYTES_PER_ROW)
    assert figures["queries_per_second"] == pytest.approx(75)
    assert figures["build_s"] == 6
    assert "variance_kept" not in figures
    kept = [info.model_copy(update={"compression": Compression(dimensions=2, variance_kept=0.5)}) for info in infos]
    assert summarise(kept)["variance_kept"] == pytest.approx(0.5)
