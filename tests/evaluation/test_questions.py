from collections.abc import Sequence

import numpy as np
import pytest

from aitax_ray.evaluation import questions as module
from aitax_ray.evaluation.questions import Photographs, ask_alone, ask_together


def photographs(occurrence: Sequence[int], num_classes: int = 3) -> Photographs:
    num = len(occurrence)
    weight = np.arange(4 * num_classes, dtype=np.float32).reshape(4, num_classes)
    unit = np.eye(4, dtype=np.float16)[np.arange(num) % 4]
    return Photographs(
        image_id=np.array([f"i{place}" for place in range(num)]),
        occurrence=np.array(occurrence, np.int64),
        target=np.arange(num) % num_classes,
        unit=unit,
        length=np.full(num, 2.0, np.float32),
        head=lambda embedding: embedding @ weight,
        num_classes=num_classes,
    )


def test_photographs_alone_are_as_many_questions() -> None:
    asked = ask_alone(photographs([7, 7, 5]))
    assert (asked.rows.tolist(), asked.starts.tolist(), asked.sizes.tolist()) == ([0, 1, 2], [0, 1, 2], [1, 1, 1])


def test_occurrences_with_enough_photographs_show_their_first_ones() -> None:
    given = photographs([7, 5, 7, 9, 7, 5])
    pairs = ask_together(given, 2, 2)
    assert [pairs.rows[start : start + 2].tolist() for start in pairs.starts] == [[1, 5], [0, 2]]
    assert ask_together(given, 3).rows.tolist() == [0, 2, 4]
    everything = ask_together(given, 1)
    assert (everything.sizes.tolist(), everything.first.tolist()) == ([2, 3, 1], [1, 0, 3])
    assert len(ask_together(given, 4)) == 0
    assert ask_together(photographs([1] * 9), 1).sizes.tolist() == [module.MAX_TOGETHER]


def test_blocks_hold_all_questions_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AT_ONCE", 2 * 3 * module.MAX_TOGETHER)  # two questions
    asked = ask_together(photographs([1, 1, 2, 3, 3, 3, 4]), 1)
    blocks = list(asked.blocks(3))
    assert [block.sizes.tolist() for block in blocks] == [[2, 1], [3, 1]]
    assert np.concatenate([block.rows for block in blocks]).tolist() == asked.rows.tolist()
    assert [block.starts.tolist() for block in blocks] == [[0, 2], [0, 3]]


def test_a_sample_holds_whole_questions() -> None:
    asked = ask_together(photographs([1, 1, 2, 3, 3, 3, 4]), 1)
    drawn = asked.sample(2)
    assert len(drawn) == 2
    whole = {tuple(asked.rows[start : start + size]) for start, size in zip(asked.starts, asked.sizes, strict=True)}
    assert {tuple(drawn.rows[s : s + n]) for s, n in zip(drawn.starts, drawn.sizes, strict=True)} <= whole
    assert asked.sample(9) is asked


def test_logits_are_those_of_the_head_for_embeddings_of_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    given, rows = photographs([1, 2, 3, 4, 5]), np.array([4, 1])
    expected = [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]  # twice the first and the second row of the weights
    assert given.logits(rows).tolist() == expected
    monkeypatch.setattr(module, "MAX_CACHED", 0)
    assert photographs([1, 2, 3, 4, 5]).logits(rows).tolist() == expected


def test_no_photographs_are_no_questions() -> None:
    none = photographs([1, 2]).select(np.zeros(0, np.int64))
    assert len(ask_alone(none)) == len(ask_together(none, 1)) == 0
    assert list(ask_together(none, 1).blocks(3)) == []
    assert none.logits(np.zeros(0, np.int64)).shape == (0, 3)
