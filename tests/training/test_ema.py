import pytest
import torch

from aitax_ray.training.ema import Ema
from tests.colours import Tiny


def set_all(network: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)


def test_the_decay_grows_to_its_value() -> None:
    network = Tiny(2)
    set_all(network, 0.0)
    ema = Ema(network, decay=0.2)
    set_all(network, 1.0)
    ema.update(network)
    # The decay is 1 / 10, then 2 / 11, then 0.2.
    assert ema.network.head.weight[0, 0].item() == pytest.approx(0.9)
    ema.update(network)
    assert ema.network.head.weight[0, 0].item() == pytest.approx(1 - 0.1 * 2 / 11)
    ema.update(network)
    assert ema.network.head.weight[0, 0].item() == pytest.approx(1 - 0.1 * 2 / 11 * 0.2)


def test_buffers_are_averaged_and_counters_are_copied() -> None:
    network = Tiny(2)
    set_all(network, 0.0)
    ema = Ema(network, decay=0.9)
    set_all(network, 10.0)
    ema.update(network)
    assert ema.network.norm.running_mean.tolist() == pytest.approx([9.0] * 3)
    assert ema.network.norm.num_batches_tracked.item() == 10
    assert network.norm.running_mean.tolist() == [10.0] * 3


def test_the_mean_takes_no_gradient_and_is_for_inference() -> None:
    ema = Ema(Tiny(2).train(), 0.9)
    assert not ema.network.training
    assert not any(p.requires_grad for p in ema.network.parameters())


def test_a_mean_goes_on_from_its_state() -> None:
    networks = [Tiny(2) for _ in range(4)]
    through = Ema(networks[0], 0.5)
    for network in networks[1:]:
        through.update(network)
    first, second = Ema(networks[0], 0.5), Ema(networks[3], 0.5)
    first.update(networks[1])
    second.load_state_dict(first.state_dict())
    for network in networks[2:]:
        second.update(network)
    for name, tensor in through.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], tensor)
