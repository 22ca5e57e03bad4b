"""Calibration: divides the logits by one temperature, so that answers with a score of 0.8 are right 8 times in 10.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599. The temperature is chosen on validation
photographs from a fixed grid: so each photograph is predicted once, and its logits are not kept.
"""

import numpy as np

TEMPERATURES = np.geomspace(0.2, 5.0, 65, dtype=np.float32)  # steps of 5 %; the middle one is 1


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
