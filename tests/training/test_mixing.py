import numpy as np
import pytest
import torch
from torch import Tensor

from aitax_ray.training.loss import Label, Target
from aitax_ray.training.mixing import Mixing

NUM = 8


def photographs() -> tuple[Tensor, Label]:
    """Photographs of one value each, which is also the class; the weight is ten times that."""
    numbers = torch.arange(NUM)
    return numbers.float()[:, None, None, None].repeat(1, 3, 10, 10), Label(numbers, 10.0 * numbers)


def mixes(mixing: Mixing, num: int = 200) -> list[tuple[Tensor, Target]]:
    return [mixing(*photographs(), epoch=1, step=step) for step in range(num)]


def check_labels(target: Target) -> None:
    main, other = target
    assert main.share >= 0.5
    assert main.share + other.share == pytest.approx(1)
    for label in target:
        assert sorted(label.class_index.tolist()) == list(range(NUM))
        assert torch.equal(label.weight, 10.0 * label.class_index)


def test_mixup_takes_the_mean_of_two_photographs_with_their_shares() -> None:
    for pixels, target in mixes(Mixing(mixup=0.4, cutmix=0, seed=0)):
        check_labels(target)
        expected = torch.stack([label.share * label.class_index for label in target]).sum(0)
        torch.testing.assert_close(pixels, expected[:, None, None, None].expand_as(pixels))


def test_cutmix_pastes_a_box_and_its_area_is_the_share() -> None:
    for pixels, target in mixes(Mixing(mixup=0, cutmix=1.0, seed=0)):
        check_labels(target)
        for photograph, main, other in zip(pixels, *(label.class_index for label in target), strict=True):
            if main != other:
                assert (photograph == main).float().mean().item() == pytest.approx(target[0].share)
                assert (photograph == other).float().mean().item() == pytest.approx(target[1].share, abs=1e-6)


def test_the_shares_are_drawn_from_their_distribution() -> None:
    narrow = [target[0].share for _, target in mixes(Mixing(mixup=100.0, cutmix=0, seed=0))]
    wide = [target[0].share for _, target in mixes(Mixing(mixup=0.1, cutmix=0, seed=0))]
    assert np.mean(narrow) < 0.6
    assert np.mean(wide) > 0.85


def test_one_of_the_two_is_drawn_per_step_from_the_seed() -> None:
    def is_pasted(mixing: Mixing, epoch: int = 0) -> list[bool]:
        mixed = [mixing(*photographs(), epoch=epoch, step=step)[0] for step in range(100)]
        return [bool((pixels == pixels.round()).all()) for pixels in mixed]

    first = is_pasted(Mixing(1.0, 1.0, seed=5))
    assert 30 < sum(first) < 70
    assert is_pasted(Mixing(1.0, 1.0, seed=5)) == first
    assert is_pasted(Mixing(1.0, 1.0, seed=6)) != first
    assert is_pasted(Mixing(1.0, 1.0, seed=5), epoch=1) != first
