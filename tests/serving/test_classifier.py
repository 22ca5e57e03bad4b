"""serving.classifier: on Ray Serve it runs in test_pipeline.py."""

from pathlib import Path

import numpy as np
import pytest

from aitax_ray.engine.bundle import open_engine
from aitax_ray.serving.classifier import predict_batch
from tests.engines import COLOURS, write_small_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1")


def test_requests_that_share_a_batch_get_each_their_own_answer(engine: Path) -> None:
    colours = list(COLOURS.values())
    requests = [np.stack([np.full((8, 8, 3), c, np.uint8) for c in colours[: n + 1]]) for n in range(3)]
    one, other = (open_engine(str(engine)).classifier() for _ in range(2))
    answers = predict_batch(list(zip([one, other, one], requests, strict=True)))
    assert [logits.argmax(axis=1).tolist() for _, logits in answers] == [[0], [0, 1], [0, 1, 2]]
    assert [embeddings.shape for embeddings, _ in answers] == [(1, 3), (2, 3), (3, 3)]
