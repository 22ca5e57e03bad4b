"""The peer of bench_training.py: fine-tuning as in PyTorch's examples, with ImageFolder, DataLoader and DDP.

python benchmarks/plain_training.py FOLDER ARCH CROP BATCH EPOCHS LOADERS       prints images/s of the last epochs
"""

import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torchvision
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.transforms import v2

WORLD = 2


def train(rank: int, folder: str, arch: str, crop: int, batch: int, epochs: int, loaders: int) -> None:
    """Train in one of the processes; the first one prints."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    torch.manual_seed(0)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // WORLD))
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(crop, scale=(0.35, 1)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    data = torchvision.datasets.ImageFolder(folder, augment)
    sampler = DistributedSampler(data, shuffle=True)
    loader = DataLoader(data, batch // WORLD, sampler=sampler, num_workers=loaders, persistent_workers=loaders > 0)
    model = torchvision.models.get_model(arch, num_classes=len(data.classes))
    model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    rates = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        begin = time.perf_counter()
        for pixels, target in loader:
            loss = loss_fn(model(pixels), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        rates.append(len(data) / (time.perf_counter() - begin))
    if rank == 0:
        print(statistics.median(rates[1:]))  # noqa: T201
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(train, (*sys.argv[1:3], *map(int, sys.argv[3:])), nprocs=WORLD)
