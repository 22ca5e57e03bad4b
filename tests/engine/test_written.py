"""engine.written: what is wrong with an engine is found before it becomes the current one."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.written import check_written, find_species_without_illustration, measure_recall
from aitax_ray.errors import EngineError
from aitax_ray.index.shards import Index, write_shard
from aitax_ray.schemas import INDEX_ROWS
from tests.blank import blank_row
from tests.engines import COLOURS, colour_classifier, rewrite_rows, write_small_engine

PHOTOGRAPHS = [(np.full((1, 8, 8, 3), colour, np.uint8), np.zeros(1)) for colour in COLOURS.values()]
KEYS = list(COLOURS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_small_engine(tmp_path / "engines" / "colours-1")


def test_an_intact_engine_passes(folder: Path) -> None:
    found = check_written(open_engine(str(folder)), colour_classifier(), PHOTOGRAPHS)
    assert (found.recall, found.without_illustration) == (1.0, [])


def test_a_classifier_that_does_not_predict_as_the_checked_one_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match="does not predict as the one that was checked before"):
        check_written(open_engine(str(folder)), colour_classifier(5.01), PHOTOGRAPHS)


def test_a_changed_file_is_refused(folder: Path) -> None:
    engine = open_engine(str(folder))
    path = folder / "classifier.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(EngineError, match="sha256 differs"):
        check_written(engine, colour_classifier(), PHOTOGRAPHS)


class Blind:
    """Finds the same rows for each query."""

    def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(np.arange(k), (len(embeddings), 1)), np.ones((len(embeddings), k), np.float32)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Two shards of 300 unit vectors in all; two of them are the same."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors[7] = vectors[250]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = pa.Table.from_pylist([blank_row(INDEX_ROWS) for _ in vectors], INDEX_ROWS)
    for number, part in enumerate((slice(0, 120), slice(120, 300))):
        write_shard(tmp_path / str(number), rows.slice(part.start, part.stop - part.start), vectors[part])
    return Index([tmp_path / "0", tmp_path / "1"])


def test_recall_of_an_exact_search_is_1_in_several_shards(index: Index) -> None:
    assert measure_recall(index) == 1.0
    assert measure_recall(index, num_queries=1, k=1000) == 1.0  # more than there are


def test_recall_of_a_search_that_finds_something_else_is_low(
    folder: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in index.shards:
        shard.__dict__["searcher"] = Blind()
    # 20 of 300 rows are found for every query.
    assert measure_recall(index) < 0.1
    engine = open_engine(str(folder))
    monkeypatch.setattr(type(engine), "index", lambda self: index)
    with pytest.raises(EngineError, match=r"finds \d% of the 10 nearest photographs, and it found 100% when it was"):
        check_written(engine, colour_classifier(), PHOTOGRAPHS)


def test_rows_that_are_not_found_count_as_missed(index: Index) -> None:
    class Nothing:
        def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            return np.full((len(embeddings), k), -1), np.full((len(embeddings), k), np.nan, np.float32)

    for shard in index.shards:
        shard.__dict__["searcher"] = Nothing()
    assert measure_recall(index) == 0


def test_species_without_a_photograph_that_can_be_shown_are_listed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = open_engine(str(folder)).index().shards[0].rows.to_pydict()
    number = len(rows["url"]) // 3
    last = [n % number == number - 1 for n in range(3 * number)]
    web, licence = "https://photos.example/a.jpg", "http://creativecommons.org/licenses/by/4.0/"
    # Of each species only the last photograph has all: of 11 it may not be shown, of 22 it has no licence.
    keys = list(zip(rows["species_key"], last, strict=True))
    rewrite_rows(
        folder,
        is_shown=[key != "11" or not is_last for key, is_last in keys],
        license=[licence if key != "22" or not is_last else "" for key, is_last in keys],
        url=[web if is_last else "" for is_last in last],
        thumbnail_length=[0] * len(last),
    )
    engine = open_engine(str(folder))
    assert find_species_without_illustration(engine.index(), KEYS) == ["11", "22"]
    with caplog.at_level(logging.WARNING):
        assert check_written(engine, colour_classifier(), PHOTOGRAPHS).without_illustration == ["11", "22"]
    assert "2 of 3 species have no photograph with a licence that can be shown" in caplog.text
    rewrite_rows(folder, thumbnail_length=[5] * len(last), url=[""] * len(last))
    assert find_species_without_illustration(open_engine(str(folder)).index(), KEYS) == []
    assert find_species_without_illustration(open_engine(str(folder)).index(), [*KEYS, "44"]) == ["44"]
