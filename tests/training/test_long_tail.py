import pytest
import torch

from aitax_ray.training.long_tail import (
    STRENGTHS,
    adjust,
    adjusted_hits,
    balanced_weights,
    choose_strength,
    class_weights,
    log_prior,
)
from aitax_ray.training.model import PrototypeHead


def test_the_prior_of_a_class_is_its_share_of_the_photographs() -> None:
    assert log_prior([6, 3, 1]).exp().tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert log_prior([6, 0, 3]).exp()[1] == pytest.approx(1 / 10)


def test_rare_species_weigh_more_in_the_loss() -> None:
    weights = class_weights([1, 3, 7], imbalanced=True)
    assert weights.tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert class_weights([1, 3, 7], imbalanced=False).tolist() == [1, 1, 1]


def test_balanced_weights_make_all_species_count_the_same() -> None:
    frequencies = [40, 1, 7, 2]
    totals = balanced_weights(frequencies) * torch.tensor(frequencies)
    torch.testing.assert_close(totals, torch.full((4,), 12.5))
    assert balanced_weights([3, 0]).isfinite().all()


def test_prior_and_weights_belong_to_their_class_in_any_order() -> None:
    frequencies = [40, 1, 7, 300, 2]
    order = [3, 1, 4, 0, 2]
    shuffled = [frequencies[place] for place in order]
    assert torch.equal(log_prior(shuffled), log_prior(frequencies)[order])
    assert torch.equal(class_weights(shuffled, True), class_weights(frequencies, True)[order])


@pytest.mark.parametrize("head", [torch.nn.Linear(4, 3), PrototypeHead(4, 3)])
def test_the_adjusted_head_gives_the_adjusted_logits(head: torch.nn.Module) -> None:
    embedding, frequencies = torch.randn(5, 4), [50, 5, 1]
    before = head(embedding).detach()
    adjust(head, frequencies, 0.75)
    torch.testing.assert_close(head(embedding), before - 0.75 * log_prior(frequencies))


def long_tailed(shift: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of two classes, 90 : 10, that favour the frequent one by `shift` times its log prior."""
    generator = torch.Generator().manual_seed(3)
    target = torch.tensor([0] * 900 + [1] * 100)
    prior = log_prior([900, 100])
    logits = torch.nn.functional.one_hot(target, 2) * 2.0 + torch.randn(1000, 2, generator=generator) + shift * prior
    return logits, target, prior


def test_the_hits_of_each_strength_are_those_of_its_logits() -> None:
    logits, target, prior = long_tailed(1.0)
    hits = adjusted_hits(logits, target, prior)
    assert hits.shape == (1000, len(STRENGTHS))
    for column, strength in enumerate(STRENGTHS):
        assert torch.equal(hits[:, column], (logits - strength * prior).argmax(1) == target)


def test_the_strength_raises_macro_top1_within_the_bound_of_top1(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    logits, target, prior = long_tailed(1.0)
    hits = adjusted_hits(logits, target, prior).float()
    chosen = STRENGTHS.index(choose_strength([(hits[:600] > 0, target[:600]), (hits[600:] > 0, target[600:])], 2))
    assert chosen > 0
    macro = (hits[target == 0].mean(0) + hits[target == 1].mean(0)) / 2
    top1 = hits.mean(0)
    assert macro[chosen] > macro[0] + 0.02
    assert top1[chosen] >= top1[0] - 0.01
    assert "logit adjustment" in caplog.text


def test_what_is_balanced_already_stays_as_it_is() -> None:
    target = torch.tensor([0, 1] * 10)
    logits = torch.nn.functional.one_hot(target, 2) * 9.0
    assert choose_strength([(adjusted_hits(logits, target, log_prior([9, 1])), target)], 2) == 0
    assert choose_strength([], 2) == 0
