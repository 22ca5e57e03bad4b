import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from aitax_ray.training.long_tail import log_prior
from aitax_ray.training.loss import Label, Loss

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
FIRST, SECOND = torch.tensor([1, 0]), torch.tensor([2, 2])
ONES = torch.ones(2)


def test_the_loss_is_torchs_cross_entropy() -> None:
    expected = cross_entropy(LOGITS, FIRST, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(Loss(0.1)(LOGITS, (Label(FIRST, ONES),)), expected)


def test_the_loss_of_mixed_photographs_is_that_of_soft_targets() -> None:
    soft = 0.7 * torch.eye(3)[FIRST] + 0.3 * torch.eye(3)[SECOND]
    target = (Label(FIRST, ONES, 0.7), Label(SECOND, ONES, 0.3))
    for smoothing in (0.0, 0.2):
        expected = cross_entropy(LOGITS, soft, reduction="none", label_smoothing=smoothing)
        torch.testing.assert_close(Loss(smoothing)(LOGITS, target), expected)
    torch.testing.assert_close(Loss().weights(target), ONES)


def test_losses_are_multiplied_by_the_weights_of_photograph_and_class() -> None:
    loss = Loss(class_weight=torch.tensor([2.0, 3.0, 5.0]))
    target = (Label(FIRST, torch.tensor([1.0, 10.0])),)
    assert loss.weights(target).tolist() == [3, 20]
    torch.testing.assert_close(loss(LOGITS, target), Loss()(LOGITS, (Label(FIRST, ONES),)) * torch.tensor([3.0, 20]))


def test_mixed_photographs_have_the_mean_weight_of_their_labels() -> None:
    loss = Loss(class_weight=torch.tensor([2.0, 4.0, 6.0]))
    target = (Label(FIRST, ONES, 0.75), Label(SECOND, ONES, 0.25))
    assert loss.weights(target).tolist() == pytest.approx([0.75 * 4 + 0.25 * 6, 0.75 * 2 + 0.25 * 6])


def test_the_mean_over_weights_is_that_of_torch() -> None:
    weight = torch.tensor([2.0, 4.0, 6.0])
    loss, target = Loss(class_weight=weight), (Label(FIRST, ONES),)
    mean = loss(LOGITS, target).sum() / loss.weights(target).sum()
    torch.testing.assert_close(mean, cross_entropy(LOGITS, FIRST, weight))


def test_logits_that_equal_the_prior_are_no_surprise_to_the_adjusted_loss() -> None:
    loss = Loss(log_prior=torch.log(torch.tensor([0.9, 0.1])))
    found = loss(torch.zeros(1, 2), (Label(torch.tensor([1]), torch.ones(1)),))
    assert found.item() == pytest.approx(-math.log(0.1))


def test_balanced_softmax_is_the_same_loss() -> None:
    counts = torch.tensor([50.0, 7.0, 1.0])
    target = (Label(FIRST, ONES),)
    balanced = Loss(log_prior=counts.log())(LOGITS, target)
    torch.testing.assert_close(Loss(log_prior=log_prior([50, 7, 1]))(LOGITS, target), balanced)
