import copy
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aitax_ray.training import execution
from aitax_ray.training.execution import DEFAULT, Execution, choose_execution, has_bfloat16, measure
from tests.colours import Tiny
from tests.small import one_thread, train_settings
from tests.two_workers import second_worker


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with one_thread():
        torch.manual_seed(0)
        yield


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.dtype, bool]] = []
        self.layer = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, pixels: torch.Tensor) -> Any:
        hidden = self.layer(pixels)
        self.seen.append((hidden.dtype, pixels.is_contiguous(memory_format=torch.channels_last)))
        embedding = hidden.mean((2, 3))
        return embedding, self.head(embedding)


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_network_is_computed_as_chosen(bfloat16: bool, channels_last: bool) -> None:
    network, way = Convolution(), Execution(bfloat16, channels_last)
    way.prepare(network)
    way(network, torch.rand(2, 3, 8, 8))
    assert network.seen == [(torch.bfloat16 if bfloat16 else torch.float32, channels_last)]
    assert network.layer.weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert network.layer.weight.dtype is torch.float32


def choose(times: dict[Execution, float], monkeypatch: pytest.MonkeyPatch, **given: Any) -> Execution:
    """Choose where the trials take the given seconds."""
    network = Tiny(2)
    others = {"num_photographs": 100, "rank": 0, "earlier": None} | {
        name: given.pop(name) for name in ("num_photographs", "rank", "earlier") if name in given
    }
    settings = train_settings("r", **{"precision": "auto", "compile": "auto", **given})
    monkeypatch.setattr(execution, "measure", lambda way, *_: times[way])
    return choose_execution(network, settings, 16, **others)


TIMES = {
    Execution(False, True): 4.0,
    Execution(False, False): 3.0,
    Execution(True, True): 1.0,
    Execution(True, False): 2.0,
    Execution(True, True, True): 0.5,
    Execution(False, False, True): 9.0,
    Execution(False, True, True): 0.1,
}


def test_the_fastest_way_is_chosen_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(execution, "has_bfloat16", lambda _: True)
    with caplog.at_level(logging.INFO):
        assert choose(TIMES, monkeypatch) == Execution(True, True)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("computing with bfloat16, channels last, not compiled (ms")
    monkeypatch.setattr(execution, "has_bfloat16", lambda _: False)
    assert choose(TIMES, monkeypatch) == Execution(False, False)


def test_long_runs_are_compiled_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "has_bfloat16", lambda _: True)
    assert choose(TIMES, monkeypatch, num_photographs=10**6) == Execution(True, True, True)
    assert choose(TIMES, monkeypatch, num_photographs=10**6, compile="no") == Execution(True, True)
    monkeypatch.setattr(execution, "has_bfloat16", lambda _: False)
    assert choose(TIMES, monkeypatch, num_photographs=10**6) == Execution(False, False)


def test_what_the_user_asks_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = choose({}, monkeypatch, precision="bfloat16", compile="yes")
    assert asked == Execution(True, True, True)
    assert choose({}, monkeypatch, precision="float32", compile="no") == DEFAULT


def test_an_interrupted_run_keeps_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = Execution(True, False)
    assert choose({}, monkeypatch, earlier=earlier) == earlier
    assert choose({}, monkeypatch, earlier=earlier, precision="float32") == Execution(False, False)


def test_measuring_leaves_the_network_unchanged() -> None:
    network = Tiny(2)
    before = copy.deepcopy(network.state_dict())
    assert 0 < measure(DEFAULT, network, torch.rand(2, 3, 8, 8)) < 5
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_a_way_that_fails_is_not_chosen(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler\nfound")

    monkeypatch.setattr(nn.Module, "compile", fail)
    with caplog.at_level(logging.INFO):
        assert measure(Execution(compiled=True), Tiny(2), torch.rand(2, 3, 8, 8)) == float("inf")
    assert caplog.messages == ["cannot compute with float32, channels last, compiled: no compiler found"]


def test_units_for_bfloat16_are_found_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(execution, "Path", lambda _: cpuinfo)
    assert not has_bfloat16(torch.device("cpu"))
    for flags, expected in (("fpu avx512_bf16 sse", True), ("fpu avx2 sse", False), ("asimd bf16", True)):
        cpuinfo.write_text(f"flags\t\t: {flags}\n")
        assert has_bfloat16(torch.device("cpu")) is expected


def choose_as_one_of_two(rank: int, folder: Path) -> Execution:
    """The first worker has another earlier way than the second one."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, timeout=timedelta(seconds=60), rank=rank, world_size=2)
    try:
        earlier = (Execution(True, False), Execution(False, True))[rank]
        settings = train_settings("r", precision="auto", compile="auto")
        chosen = choose_execution(Tiny(2), settings, 16, 100, rank, earlier)
        torch.distributed.barrier()  # a worker that leaves first breaks the connections of the other
        assert chosen == Execution(True, False)
        return chosen
    finally:
        torch.distributed.destroy_process_group()


def test_all_workers_take_the_way_of_the_first_one(tmp_path: Path) -> None:
    with second_worker(choose_as_one_of_two, tmp_path):
        assert choose_as_one_of_two(0, tmp_path) == Execution(True, False)
