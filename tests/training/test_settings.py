import pytest

from aitax_ray.errors import ArchitectureError, SettingsError
from aitax_ray.settings import build_settings
from aitax_ray.training.settings import TrainSettings
from tests.small import train_settings


def test_an_unknown_architecture_is_refused_before_any_work() -> None:
    with pytest.raises(ArchitectureError, match="resnet18"):
        build_settings(TrainSettings, {"root": "r", "arch": "resnet"})


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": -1.0}, {"crop_size": 8}, {"num_workers": 0}, {"min_workers": 0}]
)
def test_invalid_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="--" + next(iter(wrong)).replace("_", "-")):
        build_settings(TrainSettings, {"root": "r", **wrong})


def test_the_learning_rate_follows_from_optimizer_start_and_batch() -> None:
    def rate(**changes: object) -> float:
        return train_settings("r", lr=None, **changes).learning_rate()

    assert rate(batch_size=64) == 1e-3
    assert rate(batch_size=128) == 2e-3
    assert rate(batch_size=64, pretrained=True) == 1e-4
    assert rate(batch_size=32, optimizer="sgd") == pytest.approx(2.5e-2)
    assert train_settings("r", lr=0.3).learning_rate() == 0.3


def test_the_fewest_workers_are_at_most_all() -> None:
    with pytest.raises(SettingsError, match="--min-workers is more than --num-workers"):
        build_settings(TrainSettings, {"root": "r", "num_workers": 2, "min_workers": 3})


def test_each_gpu_gets_a_worker_and_no_worker_is_without_photographs() -> None:
    settings = TrainSettings(root="r")
    assert [settings.count_workers(*found) for found in ((0, 900), (1, 900), (8, 900), (8, 5), (0, 1))] == [
        2,
        1,
        8,
        5,
        1,
    ]
    assert TrainSettings(root="r", num_workers=4).count_workers(1, 900) == 4
    assert TrainSettings(root="r", min_workers=3).count_workers(0, 900) == 3
