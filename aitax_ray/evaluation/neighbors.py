"""The vote of the nearest training photographs, which joins the answer of the classifier.

The weight of a neighbour is exp(cosine / 0.07): birder's kNN takes this temperature
(https://gitlab.com/birder/birder, birder/eval/methods/knn.py). It is divided by a power of the number of training
photographs of its species, so that common species do not outvote rare ones. The share of the vote is chosen on
validation photographs. It is 0 where the vote does not help.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

TEMPERATURE = 0.07
NUM_NEIGHBORS = 50
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
POWERS = (0.0, 0.5, 1.0)
TINY = 1e-9  # the log of a probability of 0 is not a number


class Vote(BaseModel):
    """How much the neighbours count: their share of the answer, and the power of the species' frequencies."""

    model_config = ConfigDict(frozen=True)

    share: float = 0.0
    power: float = 0.5
    num_neighbors: int = NUM_NEIGHBORS

    def join(self, scores: np.ndarray, votes: np.ndarray) -> np.ndarray:
        """Join the classifier's probabilities with the votes, both (..., K)."""
        return np.asarray((1 - self.share) * scores + self.share * votes, np.float32)

    def count(self, class_index: np.ndarray, similarity: np.ndarray, num_train: np.ndarray) -> np.ndarray:
        """Count the votes for each class, (N, K), from the neighbours of N photographs, see `Neighbors`."""
        return Neighbors(class_index, similarity).votes(self.power, num_train)


@dataclass(frozen=True)
class Neighbors:
    """The nearest training photographs of N photographs."""

    class_index: np.ndarray
    """int64 (N, k); -1 where fewer were found."""
    similarity: np.ndarray
    """float32 (N, k): cosines, best first; NaN where fewer were found."""

    def select(self, which: np.ndarray) -> "Neighbors":
        """Keep those of some photographs."""
        return Neighbors(self.class_index[which], self.similarity[which])

    def weights(self, power: float, num_train: np.ndarray) -> np.ndarray:
        """The weight of each neighbour, float32 (N, k), with the sum 1; 0 without a neighbour.

        `num_train` (K,) is the number of training photographs per class.
        """
        found = self.class_index >= 0
        if not found.size:
            return np.zeros(found.shape, np.float32)
        nearest = np.nan_to_num(self.similarity[:, :1], nan=0.0)
        closeness = np.exp(np.where(found, (self.similarity - nearest) / TEMPERATURE, -np.inf))
        weights = closeness / np.maximum(num_train[np.maximum(self.class_index, 0)], 1) ** power
        return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30), np.float32)

    def votes(self, power: float, num_train: np.ndarray) -> np.ndarray:
        """The votes for each class, float32 (N, K)."""
        votes = np.zeros((len(self.class_index), len(num_train)), np.float32)
        rows = np.broadcast_to(np.arange(len(votes))[:, None], self.class_index.shape)
        np.add.at(votes, (rows, np.maximum(self.class_index, 0)), self.weights(power, num_train))
        return votes


def choose_vote(
    neighbors: Neighbors,
    target: np.ndarray,
    target_score: np.ndarray,
    num_train: np.ndarray,
    occurrence: np.ndarray,
) -> Vote:
    """Choose share and power by the negative log-likelihood of N validation photographs.

    `target_score` (N,) is the classifier's probability of the right class. The vote must be better by more than one
    standard error of the difference, else its share is 0. Photographs with the same `occurrence` (N,) are not
    independent, so the error is that of occurrences.
    """
    best, least = Vote(), np.inf
    occurrences, number = np.unique(occurrence, return_inverse=True)
    if len(occurrences) < 2:
        return best
    unbiased = len(occurrences) / (len(occurrences) - 1)
    alone = -np.log(np.maximum(target_score, TINY))
    for power in POWERS:
        own = np.where(neighbors.class_index == target[:, None], neighbors.weights(power, num_train), 0).sum(axis=1)
        for share in SHARES[1:]:
            loss = -np.log(np.maximum((1 - share) * target_score + share * own, TINY))
            gain = alone - loss
            totals = np.bincount(number, gain - gain.mean())
            error = np.sqrt(unbiased * np.square(totals).sum()) / len(gain)
            if loss.mean() < least and gain.mean() > error:
                best, least = Vote(share=share, power=power), loss.mean()
    return best
