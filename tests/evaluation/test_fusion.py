import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from aitax_ray.evaluation.fusion import RULES, Fusion, Rule

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [3.0, 1.0, 2.0]], np.float32)


@pytest.mark.parametrize("rule", RULES)
def test_one_photograph_has_its_softmax_at_its_temperature_by_any_rule(rule: Rule) -> None:
    fusion = Fusion(rule=rule, temperatures=(2.0, 1.0, 1.0))
    expected = softmax(LOGITS.astype(np.float64) / 2, axis=1)
    np.testing.assert_allclose(fusion.probabilities(LOGITS, np.arange(3)), expected, rtol=1e-6)


def test_rules_join_photographs_as_their_names_say() -> None:
    mean = softmax(LOGITS, axis=1).mean(axis=0)
    product = np.exp(log_softmax(LOGITS, axis=1).sum(axis=0))
    expected = {
        "mean_of_probabilities": mean,
        "mean_of_logits": softmax(LOGITS.mean(axis=0)),
        "product": product / product.sum(),
    }
    for rule in RULES:
        np.testing.assert_allclose(Fusion(rule=rule).probabilities(LOGITS)[0], expected[rule], rtol=1e-5)


def test_each_question_has_the_temperature_of_its_number_of_photographs() -> None:
    fusion = Fusion(temperatures=(1.0, 2.0, 4.0))
    logits = np.concatenate([LOGITS, LOGITS, LOGITS[:1]])
    found = fusion.probabilities(logits, np.array([0, 2, 6]))
    np.testing.assert_allclose(found[0], softmax(logits[:2] / 2, axis=1).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[1], softmax(logits[2:6] / 4, axis=1).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[2], softmax(logits[6]), rtol=1e-5)
    assert fusion.temperature(np.array([1, 2, 3, 9])).tolist() == [1, 2, 4, 4]


def test_energy_is_the_mean_log_sum_of_exponentials() -> None:
    found = Fusion(temperatures=(1.0, 2.0)).energy(LOGITS, np.array([0, 1]))
    np.testing.assert_allclose(found, [logsumexp(LOGITS[0]), logsumexp(LOGITS[1:] / 2, axis=1).mean()], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_logits_that_are_not_finite_give_no_probability_and_no_warning(rule: Rule) -> None:
    logits = np.array([[np.nan, 0.0], [np.inf, 0.0], [1.0, 0.0]], np.float32)
    found = Fusion(rule=rule).probabilities(logits, np.arange(3))
    assert found[:2].tolist() == [[0, 0], [0, 0]]
    assert found[2, 0] > 0.7
    assert Fusion().energy(logits, np.arange(3))[0] == -np.inf
