"""Builds from the settings what a worker needs for training: learner, mixing and augmentation."""

from collections.abc import Callable

from torch import nn

from aitax_ray.training.augment import Augmentation
from aitax_ray.training.batches import draw_seed
from aitax_ray.training.ema import Ema
from aitax_ray.training.execution import Execution
from aitax_ray.training.long_tail import class_weights, log_prior
from aitax_ray.training.loop import Learner
from aitax_ray.training.loss import Loss
from aitax_ray.training.mixing import Mixing
from aitax_ray.training.model import Classifier
from aitax_ray.training.optimizer import make_optimizer
from aitax_ray.training.schedule import make_schedule
from aitax_ray.training.settings import TrainSettings


def make_learner(
    settings: TrainSettings,
    lr: float,
    frequencies: list[int],
    classifier: Classifier,
    distribute: Callable[[Classifier], nn.Module],
    execution: Execution,
) -> Learner:
    """Make a learner with optimizer, schedule and loss.

    `classifier` is on its device already. `lr` is the peak learning rate.
    """
    execution.prepare(classifier)
    from aitax_ray.training.loop import Learner

    device = next(classifier.parameters()).device
    prior = log_prior(frequencies).to(device) if settings.long_tail in ("loss", "balanced-softmax") else None
    weight = class_weights(frequencies, settings.imbalanced).to(device)
    return Learner(
        network=classifier,
        model=distribute(classifier),
        optimizer=make_optimizer(
            classifier, settings.optimizer, lr, settings.momentum, settings.weight_decay, settings.layer_decay
        ),
        schedule=make_schedule(settings, lr),
        loss=Loss(settings.label_smoothing, prior, weight),
        clip_norm=settings.clip_norm,
        accumulate=settings.accumulate,
        freeze_norm=settings.freeze_norm,
        ema=Ema(classifier, settings.ema) if settings.ema else None,
        execution=execution,
    )


def make_mixing(settings: TrainSettings, rank: int) -> Mixing | None:
    """Make mixup and CutMix; None when both are off."""
    if not settings.mixup and not settings.cutmix:
        return None
    return Mixing(settings.mixup, settings.cutmix, draw_seed(settings.seed, 0, rank))


def make_augmentation(settings: TrainSettings, crop_size: int) -> Augmentation:
    """Make the augmentation of the settings."""
    return Augmentation(
        crop_size,
        kind=settings.augment,
        min_scale=settings.min_scale,
        vertical_flip=settings.vertical_flip,
        random_erasing=settings.random_erasing,
        seed=settings.seed,
    )
