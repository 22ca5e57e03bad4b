"""Rows of the head for species that were added after the training, while the rows of the trained species stay as known.

The rows are fitted like the others, by multinomial logistic regression, but with the logits of the trained species
fixed. So the trained species keep their logits. Two numbers for all new rows, a scale and a shift, are then fitted on
photographs that the fit has not seen: new species have few photographs, so their rows fit these too well. In
comparison, the mean embedding of a species as its row ("imprinted weights", Qi et al. 2018, arXiv 1712.07136) loses far
more photographs, see docs/add.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import optimize
from scipy.special import logsumexp

PENALTY = 0.01  # L2, on the weights for standardized embeddings; 0.001 to 0.1 give nearly the same rows
START_BIAS = -3.0
MAX_ITERATIONS = 60  # of L-BFGS
MAX_LOST = 0.01  # share of the held-out photographs of trained species that the new species may take away
ROUNDING = 1e-3  # of logits: smaller differences may have another sign in another program
MIN_HELD_OUT = 5  # held-out photographs of new species from which on scale and shift are fitted on these alone
SCALES = (0.5, 1.0, 2.0)  # starts of the search for the scale
CHUNK = 8192


@dataclass(frozen=True)
class Known:
    """What the logits of the trained species say about N photographs."""

    total: np.ndarray
    """float64 (N,): log of the sum of the exponentials of the logits."""
    largest: np.ndarray
    """float64 (N,)."""
    own: np.ndarray
    """float64 (N,): the logit of the right species; -inf if that is a new one."""

    def select(self, which: np.ndarray) -> "Known":
        """Keep some photographs."""
        return Known(self.total[which], self.largest[which], self.own[which])


@dataclass(frozen=True)
class Examples:
    """N photographs of trained and of new species."""

    embedding: np.ndarray
    """float32 (N, D): what the head takes. The new logits are linear in it."""
    known: Known
    new: np.ndarray
    """int64 (N,): number of the new species, from 0; -1 for a trained one."""
    weight: np.ndarray
    """float64 (N,)."""
    occurrence: np.ndarray
    """int64 (N,): photographs with the same number are of one occurrence."""

    def __len__(self) -> int:
        return len(self.new)

    def select(self, which: np.ndarray) -> "Examples":
        """Keep some photographs."""
        return Examples(
            self.embedding[which], self.known.select(which), self.new[which], self.weight[which], self.occurrence[which]
        )


def join_known(parts: Sequence[Known]) -> Known:
    """Put photographs together."""
    return Known(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Known)))


def _join(first: Examples, second: Examples) -> Examples:
    return Examples(
        np.concatenate([first.embedding, second.embedding]),
        join_known([first.known, second.known]),
        *(np.concatenate([getattr(first, n), getattr(second, n)]) for n in ("new", "weight", "occurrence")),
    )


@dataclass(frozen=True)
class Rows:
    """The rows of M new species."""

    weight: np.ndarray
    """float32 (M, D)."""
    bias: np.ndarray
    """float32 (M,)."""
    scale: float
    """Factor by which the logits of the fit are multiplied."""
    shift: float
    """Number that is added to these."""
    num_held_out: int
    """Photographs of new species that scale and shift were fitted on. 0: the shift is the largest that is allowed."""


def reduce_logits(logits: np.ndarray, target: np.ndarray) -> Known:
    """Reduce the logits (N, K) of the trained species. The class_index `target` (N,) of a new species is K or more."""
    logits = logits.astype(np.float64)
    num, num_known = logits.shape
    own = logits[np.arange(num), np.minimum(target, num_known - 1)]
    return Known(logsumexp(logits, axis=1), logits.max(axis=1), np.where(target < num_known, own, -np.inf))


def fit_rows(train: Examples, held_out: Examples, num_new: int) -> Rows:
    """Fit the rows of `num_new` species on `train`, each with a photograph there; `held_out` gives scale and shift.

    With fewer than MIN_HELD_OUT photographs of new species in `held_out`, photographs of `train` stand for them: the
    rows are fitted on one half of the occurrences and tried on the other.
    """
    weight, bias = _regress(train, num_new)
    tried, logits = held_out, held_out.embedding @ weight.T + bias
    if (held_out.new >= 0).sum() < MIN_HELD_OUT:
        extra, extra_logits = _cross_fit(train, num_new)
        tried, logits = _join(held_out, extra), np.concatenate([logits, extra_logits])
    is_new = tried.new >= 0
    scale, shift = _fit_scale(tried, logits) if is_new.any() else (1.0, np.inf)
    shift = _limit(shift, held_out, scale * (held_out.embedding @ weight.T + bias))
    return Rows(
        (scale * weight).astype(np.float32), (scale * bias + shift).astype(np.float32), scale, shift, int(is_new.sum())
    )


def fit_shift(prototype_logits: np.ndarray, held_out: Examples) -> float:
    """Fit the number that is added to the logits (N, M) of new species of a head of prototypes, which has one scale."""
    is_new = held_out.new >= 0
    shift = _fit_scale(held_out, prototype_logits, is_fixed=True)[1] if is_new.any() else np.inf
    return _limit(shift, held_out, prototype_logits)


def _regress(train: Examples, num_new: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit weight (M, D) and bias (M,) of the new species, in the precision of the embeddings."""
    size, precision = train.embedding.shape[1], train.embedding.dtype
    is_known = train.new < 0
    reference = train.embedding[is_known] if is_known.any() else train.embedding
    mean, std = reference.mean(axis=0, dtype=np.float64), reference.std(axis=0, dtype=np.float64)
    std = np.maximum(std, max(1e-3 * float(std.max()), 1e-12)).astype(precision)
    mean = mean.astype(precision)
    total = train.weight.sum()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = flat.reshape(num_new, size + 1)
        value, slope = 0.0, np.zeros_like(rows)
        weight, bias = rows[:, :-1].astype(precision), rows[:, -1]
        for part in _chunks(train):
            standardized = (part.embedding - mean) / std
            logits = standardized @ weight.T + bias
            largest = np.logaddexp(part.known.total, logsumexp(logits, axis=1))
            residual = np.exp(logits - largest[:, None])
            of_new = np.flatnonzero(part.new >= 0)
            own = part.known.own.copy()
            own[of_new] = logits[of_new, part.new[of_new]]
            residual[of_new, part.new[of_new]] -= 1
            residual *= (part.weight / total)[:, None]
            value += float((part.weight / total) @ (largest - own))
            slope[:, :-1] += residual.T.astype(precision) @ standardized
            slope[:, -1] += residual.sum(axis=0)
        slope[:, :-1] += PENALTY * rows[:, :-1]
        return value + PENALTY / 2 * float(np.square(rows[:, :-1]).sum()), slope.ravel()

    start = np.zeros((num_new, size + 1))
    start[:, -1] = START_BIAS
    options = {"maxiter": MAX_ITERATIONS}
    found = optimize.minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options).x
    rows = found.reshape(num_new, size + 1)
    scaled = rows[:, :-1] / std
    return scaled.astype(precision), (rows[:, -1] - scaled @ mean).astype(precision)


def _chunks(examples: Examples) -> Iterator[Examples]:
    for start in range(0, len(examples), CHUNK):
        yield examples.select(np.arange(start, min(start + CHUNK, len(examples))))


def _cross_fit(train: Examples, num_new: int) -> tuple[Examples, np.ndarray]:
    """Fit on each half of the occurrences of the new species, and apply to the other: photographs, logits (n, M)."""
    half = train.occurrence % 2
    tried, logits = [np.zeros(0, np.int64)], [np.zeros((0, num_new))]
    for place in (0, 1):
        is_fitted = (train.new < 0) | (half == place)
        has_row = np.isin(np.arange(num_new), train.new[is_fitted])
        out = np.flatnonzero(~is_fitted & np.isin(train.new, np.flatnonzero(has_row)))
        if len(out):
            weight, bias = _regress(train.select(is_fitted), num_new)
            tried.append(out)
            logits.append(np.where(has_row, train.embedding[out] @ weight.T + bias, -np.inf))
    return train.select(np.concatenate(tried)), np.concatenate(logits)


def _fit_scale(examples: Examples, logits: np.ndarray, *, is_fixed: bool = False) -> tuple[float, float]:
    """Fit scale and shift of the new logits (N, M) by the negative log-likelihood; `is_fixed`: the scale stays 1.

    A prior of log(scale) ** 2 keeps the scale around 1 where a few photographs are all right.
    """
    of_new = np.flatnonzero(examples.new >= 0)

    def loss(parameters: np.ndarray) -> float:
        log_scale = 0.0 if is_fixed else parameters[0]
        shifted = np.exp(log_scale) * logits + parameters[-1]
        largest = np.logaddexp(examples.known.total, logsumexp(shifted, axis=1))
        own = examples.known.own.copy()
        own[of_new] = shifted[of_new, examples.new[of_new]]
        return float((largest - own).sum() + log_scale**2)

    starts = [[0.0]] if is_fixed else [[np.log(scale), 0.0] for scale in SCALES]
    found = [optimize.minimize(loss, np.array(start), method="Nelder-Mead") for start in starts]
    best = min(found, key=lambda one: float(one.fun)).x
    return 1.0 if is_fixed else float(np.exp(best[0])), float(best[-1])


def _limit(shift: float, held_out: Examples, logits: np.ndarray) -> float:
    """Lower the shift of the new logits (N, M) until trained species lose at most MAX_LOST, or one photograph.

    A photograph is lost if a trained species was rightly named, and now a new one has the largest logit. An infinite
    shift becomes the largest one that is allowed: 0 where that is not known.
    """
    known = held_out.known
    is_right = (held_out.new < 0) & (known.own == known.largest)
    margin = np.sort((known.largest - logits.max(axis=1, initial=-np.inf))[is_right])
    allowed = max(1, int(MAX_LOST * (held_out.new < 0).sum()))
    if len(margin) > allowed:
        return min(shift, float(margin[allowed]) - ROUNDING)
    return 0.0 if np.isinf(shift) else shift
