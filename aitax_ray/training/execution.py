"""How a network is computed: number format, order of the pixels in memory, and whether it is compiled.

The fastest way depends on the network and on the machine, so it is measured at the start of a run.
"""

import copy
import logging
import math
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aitax_ray.training.collective import all_reduce

if TYPE_CHECKING:
    from aitax_ray.training.settings import TrainSettings

TRIAL_BATCH = {"cpu": 2, "cuda": 64}  # photographs per step of a trial, at most
TRIAL_S, MAX_STEPS = 1.0, 20  # a trial of one way ends after this many seconds or steps
# Compiling takes about a minute on a GPU and several minutes on a CPU. So runs shorter than this are not compiled.
COMPILE_FROM_S = {"cpu": 3600.0, "cuda": 600.0}
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # in /proc/cpuinfo, of x86 and ARM processors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """A way to compute a network."""

    bfloat16: bool = False
    """Whether layers compute in bfloat16 where that is safe, as torch.autocast decides. Weights stay float32."""
    channels_last: bool = True
    """Whether the channels of a pixel are neighbours in memory."""
    compiled: bool = False
    """Whether torch.compile has translated the network."""

    def prepare(self, network: nn.Module) -> None:
        """Change a network so that it can be computed in this way."""
        network.to(memory_format=self._layout)
        if self.compiled:
            # torch computes the parts that it cannot compile without compiling them.
            torch._dynamo.config.suppress_errors = True
            network.compile()

    def __call__(self, network: nn.Module, pixels: Tensor) -> Any:
        """Compute the outputs of a network."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.bfloat16):
            return network(pixels.contiguous(memory_format=self._layout))

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        numbers, order = "bfloat16" if self.bfloat16 else "float32", "last" if self.channels_last else "first"
        return f"{numbers}, channels {order}, {'compiled' if self.compiled else 'not compiled'}"


DEFAULT = Execution()


def choose_execution(
    network: nn.Module,
    settings: "TrainSettings",
    crop_size: int,
    num_photographs: int,
    rank: int,
    earlier: Execution | None,
) -> Execution:
    """Choose one way for all workers. The first worker measures. `network` is on its device and is not changed.

    `num_photographs` is how many photographs a worker processes in the run. A run that continues keeps its `earlier`
    way, because another way changes the last digits of the results.
    """
    chosen = torch.zeros(3)
    if rank == 0:
        found = earlier or _fastest(network, settings, crop_size, num_photographs)
        if settings.precision != "auto":
            found = replace(found, bfloat16=settings.precision == "bfloat16")
        if settings.compile != "auto":
            found = replace(found, compiled=settings.compile == "yes")
        chosen = torch.tensor(astuple(found), dtype=torch.float32)
    return Execution(*(bool(value) for value in all_reduce(chosen)))


def _fastest(network: nn.Module, settings: "TrainSettings", crop_size: int, num_photographs: int) -> Execution:
    device = next(network.parameters()).device
    per_step = max(2, min(settings.batch_size, TRIAL_BATCH[device.type]))
    pixels = torch.rand(per_step, 3, crop_size, crop_size, device=device)
    if settings.precision == "auto":
        numbers = [False, True] if has_bfloat16(device) else [False]
        ways = [Execution(bfloat16, channels_last) for bfloat16 in numbers for channels_last in (True, False)]
    else:
        ways = [Execution(settings.precision == "bfloat16")]
        if settings.compile != "auto":
            return ways[0]
    seconds = {way: measure(way, network, pixels) for way in ways}
    best = min(ways, key=lambda way: seconds[way])
    cores = 1 if device.type == "cuda" else torch.get_num_threads()
    run_s = seconds[best] / cores / per_step * num_photographs
    if settings.compile == "auto" and run_s > COMPILE_FROM_S[device.type]:
        compiled = replace(best, compiled=True)
        seconds[compiled] = measure(compiled, network, pixels)
        best = min(best, compiled, key=lambda way: seconds[way])
    shown = "; ".join(f"{way}: {1000 * taken / per_step:.1f}" for way, taken in seconds.items())
    log.info("computing with %s (ms per photograph, of all cores together: %s)", best, shown)
    return best


def measure(way: Execution, network: nn.Module, pixels: Tensor) -> float:
    """Measure the seconds of a step, forwards and backwards, on a copy of the network; infinite when the step fails.

    On a CPU this is the sum over all its cores.
    """
    trial = copy.deepcopy(network).train()
    fastest, started = math.inf, time.perf_counter()
    try:
        way.prepare(trial)
        if way.compiled:  # the first step compiles
            _step(way, trial, pixels)
            started = time.perf_counter()
        for _ in range(MAX_STEPS):
            fastest = min(fastest, _step(way, trial, pixels))
            if time.perf_counter() - started > TRIAL_S:
                break
    except Exception as error:  # torch and its compilers raise many kinds of errors; other ways may still work
        log.info("cannot compute with %s: %s", way, " ".join(str(error).split())[:200])
        return math.inf
    return fastest


def _step(way: Execution, network: nn.Module, pixels: Tensor) -> float:
    # On a CPU the time of this process alone, without that of other processes, such as those that decode.
    clock = time.perf_counter if pixels.device.type == "cuda" else time.process_time
    started = clock()
    _embedding, logits = way(network, pixels)
    logits.float().logsumexp(1).sum().backward()
    network.zero_grad()
    if pixels.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16. Without them it is much slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")  # Linux
    return cpuinfo.exists() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text(encoding="utf-8").split())
