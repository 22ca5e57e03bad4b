"""evaluation.score: the few numbers per photograph that evaluation keeps."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray.evaluation.calibration import TEMPERATURES, at_temperatures
from aitax_ray.evaluation.score import TOP, Scorer, score
from aitax_ray.training.feed import decode_for_evaluation
from aitax_ray.training.predict import Predictor, as_lists, as_matrix
from tests.small import KEYS, jpeg, one_thread, photo, write_model, write_root


def predicted(logits: np.ndarray, target: list[int]) -> pa.Table:
    return pa.table(
        {
            "image_id": [f"id{n}" for n in range(len(logits))],
            "class_index": pa.array(target, pa.int32()),
            "split": ["val", "test"] * (len(logits) // 2),
            "embedding": as_lists(np.ones((len(logits), 2), np.float32)),
            "logits": as_lists(logits.astype(np.float32)),
        }
    )


def test_of_many_classes_the_best_five_are_kept_and_of_equals_the_first() -> None:
    logits = np.array([[0, 1, 2, 3, 4, 5, 6], [0, 9, 9, 0, 1, 0, 2]])
    scored = score(predicted(logits, [6, 2]))
    assert as_matrix(scored["top"]).tolist() == [[6, 5, 4, 3, 2], [1, 2, 6, 4, 0]]
    assert len(scored["top"][0]) == TOP


@pytest.mark.parametrize("num_classes", [1, 3])
def test_of_fewer_classes_all_are_kept(num_classes: int) -> None:
    top = as_matrix(score(predicted(np.zeros((2, num_classes)), [0, 0]))["top"])
    assert top.tolist() == [list(range(num_classes))] * 2


def test_class_and_side_stay_with_their_photograph_and_its_figures() -> None:
    logits, target = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32), [5, 0, 3, 1]
    scored = score(predicted(logits, target))
    assert set(scored.schema.names) == {"class_index", "split", "top", "nll", "max_probability"}
    assert scored["class_index"].to_pylist() == target
    assert scored["split"].to_pylist() == ["val", "test"] * 2
    nll, max_probability = at_temperatures(logits, np.array(target))
    np.testing.assert_array_equal(as_matrix(scored["nll"]), nll)
    np.testing.assert_array_equal(as_matrix(scored["max_probability"]), max_probability)
    assert nll.shape == (4, len(TEMPERATURES))


def test_a_scorer_scores_what_a_predictor_predicts(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train"])
    with one_thread():
        write_model(ws)
        scorer = Scorer(ws.root)
        table = pa.table({"image_id": KEYS, "class_index": pa.array([0, 1, 2], pa.int32()), "split": ["test"] * 3})
        table = table.append_column("jpeg", pa.array([jpeg(photo(key, 0)) for key in KEYS]))
        batch = decode_for_evaluation(table, scorer.info.transform)
        assert scorer(batch).equals(score(Predictor(ws.root)(batch)))
