"""Calibration: divides the logits by one temperature, so that answers with a score of 0.8 are right 8 times in 10.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599. The temperature is chosen on validation
photographs from a fixed grid: so each photograph is predicted once, and its logits are not kept.
"""

import numpy as np

TEMPERATURES = np.geomspace(0.2, 5.0, 65, dtype=np.float32)  # steps of 5 %; the middle one is 1
NUM_BINS = 15


def at_temperatures(logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the negative log-likelihood and the largest probability of N photographs at each of T temperatures.

    `logits` is (N, K), `target` (N,); both results are float32 (N, T).
    """
    with np.errstate(invalid="ignore"):  # logits that are not finite give figures that are not finite
        centred = logits - logits.max(axis=1, keepdims=True)
    nll = np.empty((len(logits), len(TEMPERATURES)), np.float32)
    max_probability = np.empty_like(nll)
    for column, temperature in enumerate(TEMPERATURES):
        scaled = centred / temperature
        log_total = np.log(np.exp(scaled).sum(axis=1))
        nll[:, column] = log_total - scaled[np.arange(len(target)), target]
        max_probability[:, column] = np.exp(-log_total)
    return nll, max_probability


def best_temperature(nll: np.ndarray) -> int:
    """Find the index in TEMPERATURES of the most probable one; without photographs that of 1.

    That is the lowest sum of the negative log-likelihood and of log(T) ** 2, a prior of T around 1. Without it, where a
    few photographs are all predicted right, the lowest temperature would be the best, and each answer quite sure of
    itself. Photographs whose likelihood is not a finite number do not count.
    """
    finite = nll[np.isfinite(nll).all(axis=1)] if nll.size else np.zeros((0, len(TEMPERATURES)))
    return int((finite.sum(axis=0, dtype=np.float64) + np.log(TEMPERATURES) ** 2).argmin())


def reliability(max_probability: np.ndarray, hit: np.ndarray) -> list[tuple[float, float, int]]:
    """For each of NUM_BINS equal bins of max_probability that is not empty: its mean, the share of hits, the number.

    Photographs whose max_probability is not a finite number do not count.
    """
    is_finite = np.isfinite(max_probability)
    max_probability, hit = max_probability[is_finite], hit[is_finite]
    bins = np.minimum((max_probability * NUM_BINS).astype(int), NUM_BINS - 1)
    inside = ((max_probability[bins == b], hit[bins == b]) for b in range(NUM_BINS))
    return [(float(c.mean()), float(h.mean()), len(c)) for c, h in inside if len(c)]


def expected_calibration_error(max_probability: np.ndarray, hit: np.ndarray) -> float:
    """Average the distance between max_probability and share of hits over the bins, weighted by their numbers."""
    bins = reliability(max_probability, hit)
    return sum(abs(c - h) * num for c, h, num in bins) / max(sum(num for _, _, num in bins), 1)
