from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.cluster import Resources
from aitax_ray.training import feed
from aitax_ray.training.feed import decode_for_evaluation, read_labels
from aitax_ray.training.inference import count_classifiers, predictions
from aitax_ray.training.predict import Predictor
from aitax_ray.training.settings import InferenceSettings
from tests.small import write_model, write_root

FOUR_CPUS = Resources(nodes=1, cpus=4, gpus=0)
SIDES = ("train", "val", "test", "test")


@pytest.mark.usefixtures("ray_session")
def test_each_labelled_photograph_is_predicted_once_by_one_of_the_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "ROWS_PER_BLOCK", 2)  # with larger blocks one copy would get all photographs
    ws = write_root(tmp_path, SIDES)
    write_model(ws)
    labels = read_labels(ws, "val", "test")
    settings = InferenceSettings(root=ws.root, inference_batch_size=2, num_classifiers=2)
    rows = predictions(ws, labels, settings, Predictor).take_all()
    assert Counter(row["split"] for row in rows) == Counter({side: 3 * SIDES.count(side) for side in ("val", "test")})
    assert {row["image_id"].encode() for row in rows} == set(labels.image_ids)
    assert len(rows) == len(labels)

    here = Predictor(ws.root)
    stored = labels(ws.storage.read_table("images", ["image_id", "jpeg"]))
    expected = {r["image_id"]: r for r in here(decode_for_evaluation(stored, here.info.transform)).to_pylist()}
    for row in rows:
        assert row["class_index"] == expected[row["image_id"]]["class_index"]
        np.testing.assert_allclose(row["logits"], expected[row["image_id"]]["logits"], atol=1e-4)


def test_classifiers_use_all_cpus_but_one_where_there_is_work() -> None:
    assert [count_classifiers(num, False, FOUR_CPUS) for num in (1, 128, 129, 256, 257, 10_000)] == [1, 1, 2, 2, 3, 3]
    assert count_classifiers(10_000, True, FOUR_CPUS) == 1
