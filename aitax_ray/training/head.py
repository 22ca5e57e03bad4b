"""Training of the head on stored embeddings: multinomial logistic regression, or prototypes of the classes.

The embeddings may be larger than memory: they are read in chunks, from a file that is mapped into memory.
"""

import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aitax_ray.training.embeddings import StoredEmbeddings, views_of
from aitax_ray.training.feed import Labels
from aitax_ray.training.model import PrototypeHead
from aitax_ray.training.validation import validate

Row = dict[str, Any]

# Strengths of the L2 penalty on the weights for standardized embeddings, from strong to weak.
PENALTIES = tuple(float(10**-exponent) for exponent in np.arange(0.0, 5.01, 0.5))
MIN_ERROR = 0.005  # smallest standard error of top-1 that is used: without a wrong answer it would be 0
WORSE_BEFORE_END = 2  # penalties that are tried after the best one
MAX_ITERATIONS, FINAL_ITERATIONS = 15, 100  # of L-BFGS, in the search of the penalty and in the last fit
# Largest number of floating point operations of L-BFGS: some minutes on two cores. With more rows, the search of the
# penalty uses a sample of the rows, and the last fit uses stochastic gradients: DESCENTS passes through all rows.
MAX_SEARCH_FLOPS, MAX_FIT_FLOPS = 5e12, 2e13
MIN_SEARCH_ROWS = 2  # per species: with a sample that lacks most species, a far too strong penalty would be chosen
DESCENTS, STEP_ROWS, STEP_SIZE = 8, 1024, 3e-3
CHUNK = 8192  # rows per chunk
# Bytes of standardized embeddings that are kept in memory. If there are more, each pass reads and standardizes them.
MAX_IN_MEMORY = 2**30
SCALES = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0)  # of the cosines of prototypes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Embeddings of photographs, with their classes and weights for training. A row is one view of a photograph."""

    unit: np.ndarray
    """float16 (N, D), of unit length."""
    length: np.ndarray
    """float32 (N,): the length of each embedding before it was scaled to unit length."""
    target: np.ndarray
    """int64 (N,): class_index."""
    weight: np.ndarray
    """float32 (N,)."""

    def __len__(self) -> int:
        return len(self.target)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield embeddings float32 (n, D), class_index and weight, CHUNK rows at a time."""
        return map(self.chunk, range(-(-len(self) // CHUNK)))

    def chunk(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Read one chunk, by its number from 0 on."""
        part = slice(place * CHUNK, (place + 1) * CHUNK)
        embedding = self.unit[part].astype(np.float32) * self.length[part, None]
        return torch.from_numpy(embedding), torch.from_numpy(self.target[part]), torch.from_numpy(self.weight[part])

    def sample(self, num: int, seed: int) -> "Features":
        """Draw at most `num` rows."""
        if len(self) <= num:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), num, replace=False))
        return Features(self.unit[rows], self.length[rows], self.target[rows], self.weight[rows])


def read_features(stored: StoredEmbeddings, labels: Labels, views: int, folder: Path) -> Features:
    """Read the first `views` views of the labelled photographs into a file in `folder`, sorted by image_id."""
    unit: Any = None
    length = np.zeros((len(labels), views), np.float32)
    for rows in stored.batches():
        place, found = labels.find(rows["image_id"])
        rows = rows.filter(found)
        if not rows.num_rows:
            continue
        vectors = views_of(rows)[:, :views]
        if unit is None:
            file = Path(tempfile.mkdtemp(dir=folder)) / "unit"
            unit = np.memmap(file, np.float16, "w+", shape=(len(labels), views, vectors.shape[2]))
        unit[place] = vectors
        length[place] = np.stack(rows["length"].to_numpy())[:, :views]
    if unit is None:
        unit = np.zeros((0, views, 1), np.float16)
    return Features(
        unit=unit.reshape(len(labels) * views, -1),
        length=length.reshape(-1),
        target=np.repeat(labels.class_index.astype(np.int64), views),
        weight=np.repeat(labels.weight.astype(np.float32) / views, views),
    )


def fit_linear(
    head: nn.Linear,
    train: Features,
    val: Features,
    offset: Tensor,
    class_weight: Tensor,
    seed: int,
    *,
    is_start: bool = False,
) -> list[Row]:
    """Fit multinomial logistic regression, and choose the penalty by the validation loss. Returns a row per penalty.

    `offset` (K,) is added to the logits during training. The fit uses standardized embeddings. The head is then
    converted to take embeddings that are not standardized. Without validation photographs the middle penalty is taken.

    With `is_start` the head is the start of fine-tuning. Then the strongest penalty is taken whose top-1 is within one
    standard error of the best top-1. A weak penalty gives very large logits, with which the first steps of fine-tuning
    would damage the backbone.
    """
    num_classes = head.out_features
    mean, std = _moments(train)
    flops_per_row = 4 * head.weight.numel()  # of one pass, forwards and backwards
    evaluations = 1.25 * MAX_ITERATIONS * len(PENALTIES)
    num_affordable = int(MAX_SEARCH_FLOPS / (flops_per_row * evaluations))
    search = train.sample(max(num_affordable, MIN_SEARCH_ROWS * num_classes), seed)
    regression = _Regression(mean, std, num_classes, offset, class_weight)
    rows: list[Row] = []
    states: list[tuple[float, Tensor]] = []
    penalties = PENALTIES if len(val) else PENALTIES[len(PENALTIES) // 2 :][:1]
    for penalty in penalties:
        train_loss = regression.fit(search, penalty, MAX_ITERATIONS)
        regression.write_to(head)
        figures = validate(_HeadOnly(head), _as_batches(val), num_classes)
        rows.append({"epoch": len(rows) + 1, "penalty": penalty, "train_loss": train_loss, **figures})
        states.append((penalty, regression.parameters.detach().clone()))
        best = min(range(len(rows)), key=lambda number: rows[number]["loss"] if len(val) else 0.0)
        if len(rows) - 1 - best >= WORSE_BEFORE_END:
            break
    if is_start and len(val):
        top1 = rows[best]["top1"]
        error = math.sqrt(top1 * (1 - top1) / len(val))
        best = next(number for number, row in enumerate(rows) if row["top1"] >= top1 - max(error, MIN_ERROR))
    penalty, parameters = states[best]
    regression.parameters.data.copy_(parameters)
    # The penalty is added to the mean loss. With more rows than in the sample, the sum of losses weighs more.
    penalty *= len(search) / len(train)
    if flops_per_row * len(train) * FINAL_ITERATIONS <= MAX_FIT_FLOPS:
        rows[best]["train_loss"] = regression.fit(train, penalty, FINAL_ITERATIONS)
    else:
        rows[best]["train_loss"] = regression.descend(train, penalty, seed)
    regression.write_to(head)
    rows[best] |= validate(_HeadOnly(head), _as_batches(val), num_classes)
    log.info("logistic regression: penalty %.2g of %d tried", penalty, len(rows))
    return [row | {"is_best": number == best} for number, row in enumerate(rows)]


class _Regression:
    """Multinomial logistic regression on standardized embeddings, minimized with L-BFGS."""

    def __init__(self, mean: Tensor, std: Tensor, num_classes: int, offset: Tensor, class_weight: Tensor) -> None:
        self._mean, self._std, self._offset, self._class_weight = mean, std, offset, class_weight
        self.parameters = nn.Parameter(torch.zeros(num_classes, len(mean) + 1))  # the last column is the bias

    def fit(self, features: Features, penalty: float, max_iterations: int) -> float:
        """Minimize, starting from the current parameters. Returns the mean loss, without the penalty."""
        chunks: Iterable[tuple[Tensor, Tensor, Tensor]] = _Standardized(
            features, self._mean, self._std, self._class_weight
        )
        if 4 * features.unit.size <= MAX_IN_MEMORY:
            chunks = list(chunks)
        total = sum(float(weight.sum()) for _, _, weight in chunks)
        optimizer = torch.optim.LBFGS(
            [self.parameters], max_iter=max_iterations, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-5, tolerance_change=1e-6,
        )  # fmt: skip
        last = 0.0

        def closure() -> Tensor:
            nonlocal last
            optimizer.zero_grad()
            loss: Tensor = torch.zeros(())
            for standardized, target, weight in chunks:
                logits = nn.functional.linear(standardized, self.parameters[:, :-1], self.parameters[:, -1])
                each = nn.functional.cross_entropy(logits + self._offset, target, reduction="none")
                part = (each * weight).sum() / total
                part.backward()
                loss += part.detach()
            last = float(loss)
            decay = penalty / 2 * self.parameters[:, :-1].square().sum()
            decay.backward()
            return loss + decay.detach()

        optimizer.step(closure)
        return last

    def descend(self, features: Features, penalty: float, seed: int) -> float:
        """Minimize with stochastic gradients, starting from the current parameters.

        Returns the mean loss of the last pass. Each pass shuffles the chunks, and the rows in each chunk. That is
        enough, because the rows are in the order of hashes, and so each chunk has many species.
        """
        standardized = _Standardized(features, self._mean, self._std, self._class_weight)
        mean_weight = float(sum(weight.sum() for _, _, weight in standardized)) / len(features)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam([self.parameters], lr=STEP_SIZE)
        steps = DESCENTS * -(-len(features) // STEP_ROWS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        total = 0.0
        for _ in range(DESCENTS):
            total = 0.0
            places = torch.randperm(-(-len(features) // CHUNK), generator=generator).tolist()
            for standard, target, weight in map(standardized.chunk, places):
                for rows in torch.randperm(len(target), generator=generator).split(STEP_ROWS):
                    optimizer.zero_grad()
                    logits = nn.functional.linear(standard[rows], self.parameters[:, :-1], self.parameters[:, -1])
                    each = nn.functional.cross_entropy(logits + self._offset, target[rows], reduction="none")
                    loss = (each * weight[rows]).mean() / mean_weight
                    (loss + penalty / 2 * self.parameters[:, :-1].square().sum()).backward()
                    optimizer.step()
                    schedule.step()
                    total += float(loss.detach()) * len(rows)
        return total / len(features)

    def write_to(self, head: nn.Linear) -> None:
        """Write the weights into a head, so that it takes embeddings that are not standardized."""
        weight = self.parameters.detach()[:, :-1] / self._std
        head.weight.data.copy_(weight)
        head.bias.data.copy_(self.parameters.detach()[:, -1] - weight @ self._mean)


@dataclass(frozen=True)
class _Standardized:
    """The chunks of embeddings, standardized again in each pass. Weights are those of photograph and class combined."""

    features: Features
    mean: Tensor
    std: Tensor
    class_weight: Tensor

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return map(self.chunk, range(-(-len(self.features) // CHUNK)))

    def chunk(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Standardize one chunk, by its number from 0 on."""
        embedding, target, weight = self.features.chunk(place)
        return (embedding - self.mean) / self.std, target, weight * self.class_weight[target]


def _moments(features: Features) -> tuple[Tensor, Tensor]:
    """Compute the mean and the standard deviation of each element of the embeddings: (D,) each."""
    total, squares, num = torch.zeros(()), torch.zeros(()), 0
    for embedding, _target, _weight in features.chunks():
        doubled = embedding.double()
        total, squares, num = total + doubled.sum(0), squares + doubled.square().sum(0), num + len(embedding)
    mean = total / num
    variance = (squares / num - mean.square()).clamp(min=0)
    # An element that hardly varies has no information. Divided by its tiny deviation it would outweigh the others.
    floor = 1e-3 * variance.max().sqrt().clamp(min=1e-12)
    return mean.float(), variance.sqrt().clamp(min=floor).float()


def fit_prototypes(head: PrototypeHead, train: Features, val: Features) -> list[Row]:
    """Set each prototype to the mean direction of its class, and choose the scale by the validation loss.

    The mean of all embeddings is subtracted first: Wang et al. 2019, "SimpleShot", arXiv 1911.04623.
    """
    num_classes, size = head.weight.shape
    center = _mean_direction(train)
    sums: Tensor = torch.zeros(num_classes, size)
    for embedding, target, weight in train.chunks():
        direction = nn.functional.normalize(nn.functional.normalize(embedding) - center)
        sums.index_add_(0, target, direction * weight[:, None])
    head.center.copy_(center)
    head.weight.data.copy_(nn.functional.normalize(sums))
    head.bias.data.zero_()
    rows: list[Row] = []
    for scale in SCALES if len(val) else SCALES[3:4]:
        head.scale.data.fill_(scale)
        rows.append(
            {"epoch": len(rows) + 1, "scale": scale, **validate(_HeadOnly(head), _as_batches(val), num_classes)}
        )
    best = min(range(len(rows)), key=lambda number: rows[number]["loss"] if len(val) else 0.0)
    head.scale.data.fill_(rows[best]["scale"])
    return [row | {"is_best": number == best} for number, row in enumerate(rows)]


def _mean_direction(features: Features) -> Tensor:
    total: Tensor = torch.zeros(features.unit.shape[1])
    for embedding, _target, _weight in features.chunks():
        total += nn.functional.normalize(embedding).sum(0)
    return total / len(features)


class _HeadOnly(nn.Module):
    """A head as a network whose input are embeddings."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        return embedding, self.head(embedding)


def _as_batches(features: Features) -> Iterator[tuple[Tensor, Tensor]]:
    for embedding, target, _weight in features.chunks():
        yield embedding, target


def head_outputs(head: nn.Module, features: Features) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (n, K) and class_index (n,) of the embeddings, in chunks."""
    with torch.inference_mode():
        for embedding, target, _weight in features.chunks():
            yield head(embedding), target
