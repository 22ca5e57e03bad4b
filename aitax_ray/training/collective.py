"""What the workers of a run do together: sum figures, and copy values of the first worker.

With a single worker the functions do nothing.
"""

import torch
import torch.distributed
from torch import Tensor, nn


def is_shared() -> bool:
    """Whether there are several workers."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def all_reduce(totals: Tensor) -> Tensor:
    """Sum over all workers; with a single worker, return the tensor unchanged. The result is on the CPU."""
    if is_shared():
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        totals = totals.to(device)
        torch.distributed.all_reduce(totals)
    return totals.cpu()


def mean_of_workers(value: float) -> float:
    """Compute the mean over all workers. Each worker gets the same number."""
    total, num = all_reduce(torch.tensor([value, 1.0], dtype=torch.float64)).tolist()
    return float(total / num)


def share_buffers(network: nn.Module) -> None:
    """Copy the running statistics of batch normalization from the first worker to all others.

    Otherwise DistributedDataParallel would copy them in its first call. That call waits for all workers, but a worker
    without validation photographs makes no call, so the others would wait for ever.
    """
    if is_shared():
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)
