"""The temperature of a classifier alone, from a fixed grid: so each photograph is predicted once, in batches.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599. `publish` compares with it a quantized
classifier and the one that it was made from. answering.py fits the temperatures that an engine has.
"""

import numpy as np

TEMPERATURES = np.geomspace(0.2, 5.0, 65, dtype=np.float32)  # steps of 5 %; the middle one is 1


def at_temperatures(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute the negative log-likelihood of N photographs at each of T temperatures, float32 (N, T).

    `logits` is (N, K), `target` (N,).
    """
    with np.errstate(invalid="ignore"):  # logits that are not finite give figures that are not finite
        centred = logits - logits.max(axis=1, keepdims=True)
    nll = np.empty((len(logits), len(TEMPERATURES)), np.float32)
    for column, temperature in enumerate(TEMPERATURES):
        scaled = centred / temperature
        nll[:, column] = np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(target)), target]
    return nll


def best_temperature(nll: np.ndarray) -> int:
    """Find the index in TEMPERATURES of the most probable one; without photographs that of 1.

    That is the lowest sum of the negative log-likelihood and of log(T) ** 2, a prior of T around 1. Without it, where a
    few photographs are all predicted right, the lowest temperature would be the best, and each answer quite sure of
    itself. Photographs whose likelihood is not a finite number do not count.
    """
    finite = nll[np.isfinite(nll).all(axis=1)] if nll.size else np.zeros((0, len(TEMPERATURES)))
    return int((finite.sum(axis=0, dtype=np.float64) + np.log(TEMPERATURES) ** 2).argmin())
