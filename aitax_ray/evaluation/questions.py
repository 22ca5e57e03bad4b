"""The questions that the evaluation asks: photographs whose species is known, alone or several of one occurrence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

MAX_TOGETHER = 5  # photographs of one occurrence, as many as the service takes
MAX_CACHED = 50_000_000  # logits that are kept; of more they are computed anew each time
MAX_AT_ONCE = 10_000_000  # logits that are computed at a time

Head = Callable[[np.ndarray], np.ndarray]
"""Maps embeddings float32 (N, D) to logits float32 (N, K)."""


@dataclass(frozen=True)
class Photographs:
    """N photographs whose species is known, in the order of their keys."""

    image_id: np.ndarray
    """str (N,)."""
    occurrence: np.ndarray
    """int64 (N,): photographs with the same number are of one occurrence."""
    target: np.ndarray
    """int64 (N,): class_index; -1 for a species that is no class."""
    unit: np.ndarray
    """float16 (N, D): embeddings of unit length."""
    length: np.ndarray
    """float32 (N,): the length that each embedding had."""
    head: Head
    num_classes: int

    def __len__(self) -> int:
        return len(self.target)

    def select(self, which: np.ndarray) -> "Photographs":
        """Keep some photographs."""
        names = ("image_id", "occurrence", "target", "unit", "length")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """The logits of some photographs, float32 (n, K)."""
        return self._all_logits[rows] if len(self) * self.num_classes <= MAX_CACHED else self._compute(rows)

    @cached_property
    def _all_logits(self) -> np.ndarray:
        step = max(1, MAX_AT_ONCE // self.num_classes)
        parts = [self._compute(np.arange(at, min(at + step, len(self)))) for at in range(0, len(self), step)]
        return np.concatenate(parts) if parts else np.zeros((0, self.num_classes), np.float32)

    def _compute(self, rows: np.ndarray) -> np.ndarray:
        return self.head(self.unit[rows].astype(np.float32) * self.length[rows, None])


@dataclass(frozen=True)
class Questions:
    """Q questions about photographs. Those of one question stand together in `rows`."""

    rows: np.ndarray
    """int64: places of photographs."""
    starts: np.ndarray
    """int64 (Q,): where the photographs of each question begin in `rows`."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> np.ndarray:
        """The number of photographs of each question, (Q,)."""
        return np.diff(np.append(self.starts, len(self.rows)))

    @property
    def first(self) -> np.ndarray:
        """The place of the first photograph of each question, (Q,)."""
        return np.asarray(self.rows[self.starts])

    def blocks(self, num_classes: int) -> Iterator["Questions"]:
        """Cut the questions into blocks, so that the logits of a block need little memory."""
        step = max(1, MAX_AT_ONCE // (num_classes * MAX_TOGETHER))
        ends = np.append(self.starts, len(self.rows))
        for at in range(0, len(self), step):
            last = min(at + step, len(self))
            yield Questions(self.rows[ends[at] : ends[last]], self.starts[at:last] - ends[at])

    def sample(self, num: int, seed: int = 0) -> "Questions":
        """Draw at most `num` questions."""
        if len(self) <= num:
            return self
        drawn = np.sort(np.random.default_rng(seed).choice(len(self), num, replace=False))
        return _join(
            [self.rows[start : start + size] for start, size in zip(self.starts[drawn], self.sizes[drawn], strict=True)]
        )


def ask_alone(photographs: Photographs) -> Questions:
    """Ask about each photograph alone."""
    return Questions(np.arange(len(photographs)), np.arange(len(photographs)))


def ask_together(photographs: Photographs, least: int, most: int = MAX_TOGETHER) -> Questions:
    """Ask about each occurrence with `least` photographs or more, showing its first ones, at most `most`."""
    order = np.argsort(photographs.occurrence, kind="stable")
    cuts = np.flatnonzero(np.diff(photographs.occurrence[order])) + 1
    groups = [group[:most] for group in np.split(order, cuts) if len(group) >= max(least, 1)]
    return _join(groups)


def _join(groups: list[np.ndarray]) -> Questions:
    sizes = np.array([len(group) for group in groups], np.int64)
    rows = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    return Questions(rows, np.cumsum(sizes) - sizes)
