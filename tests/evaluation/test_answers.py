import numpy as np

from tests.evaluation.rows import make_answers


def test_some_questions_are_selected_by_mask_and_by_place() -> None:
    answers = make_answers(target=[2, 0, -1], top=[2, 1, 0], score=[0.9, 0.5, 0.4])
    chosen = answers.select(np.array([True, False, True]))
    assert (len(answers), len(chosen)) == (3, 2)
    assert chosen.target.tolist() == [2, -1]
    assert chosen.scores[:, 0].tolist() == answers.scores[[0, 2], 0].tolist()
    assert answers.select(np.array([2, 0])).top[:, 0].tolist() == [0, 2]
