"""Assign occurrences to train, val and test.

By occurrence and not by photograph: the photographs of one occurrence show one individual on one day, and in real
archives a third to three quarters of the validation photographs would otherwise have a twin in training.
"""

import hashlib
from collections.abc import Iterable


def split_occurrences(gbif_ids: Iterable[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Split the occurrences of one species; returns gbif_id -> "train", "val" or "test".

    The order is a hash of (seed, gbif_id), so the result depends on nothing else. Of two or more occurrences at least
    one is for validation, of three or more at least one for test, and one always stays for training. A share of 0
    switches that side off.
    """
    ordered = sorted(set(gbif_ids), key=lambda gbif_id: hashlib.sha256(f"{seed}/{gbif_id}".encode()).digest())
    num = len(ordered)
    num_val = max(1, round(val * num)) if val > 0 and num >= 2 else 0
    num_test = max(1, round(test * num)) if test > 0 and num >= 3 else 0
    while num_val + num_test >= num > 0 and num_val + num_test > 0:  # only with shares that leave nothing to train on
        num_val, num_test = (num_val - 1, num_test) if num_val >= num_test else (num_val, num_test - 1)
    sides = ["test"] * num_test + ["val"] * num_val
    return dict(zip(ordered, sides + ["train"] * (num - len(sides)), strict=True))
