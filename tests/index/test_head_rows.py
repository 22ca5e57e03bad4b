"""Species as clouds: a head that knows some of them, made by hand, gets rows for the others."""

from dataclasses import replace

import numpy as np
import pytest

from aitax_ray.index import head_rows
from aitax_ray.index.head_rows import Examples, fit_rows, fit_shift, reduce_logits

SIZE, NUM_KNOWN, NUM_NEW = 24, 5, 3
CENTRES = np.random.default_rng(7).normal(size=(NUM_KNOWN + NUM_NEW, SIZE)).astype(np.float32)
SPREAD = 0.9


def draw(num: dict[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw so many photographs of each species: embeddings and species."""
    target = np.repeat(list(num), list(num.values())).astype(np.int64)
    noise = np.random.default_rng(seed).normal(size=(len(target), SIZE))
    return (CENTRES[target] + SPREAD * noise).astype(np.float32), target


def known_logits(embedding: np.ndarray) -> np.ndarray:
    """The best head for these clouds: linear discriminant analysis with the true centres."""
    centres = CENTRES[:NUM_KNOWN]
    return np.asarray(embedding @ centres.T - np.square(centres).sum(axis=1) / 2) / SPREAD**2


def examples(num: dict[int, int], seed: int, per_occurrence: int = 1) -> Examples:
    embedding, target = draw(num, seed)
    known = reduce_logits(known_logits(embedding), target)
    new = np.where(target >= NUM_KNOWN, target - NUM_KNOWN, -1)
    return Examples(embedding, known, new, np.ones(len(target)), np.arange(len(target)) // per_occurrence)


def accuracy(rows: head_rows.Rows, seed: int = 99) -> tuple[float, float, float]:
    """Accuracy on new species, and on trained ones before and after."""
    embedding, target = draw(dict.fromkeys(range(NUM_KNOWN + NUM_NEW), 400), seed)
    before = known_logits(embedding)
    named = np.concatenate([before, embedding @ rows.weight.T + rows.bias], axis=1).argmax(axis=1)
    is_new = target >= NUM_KNOWN
    hit = named == target
    return float(hit[is_new].mean()), float((before.argmax(1) == target)[~is_new].mean()), float(hit[~is_new].mean())


KNOWN, NEW = range(NUM_KNOWN), range(NUM_KNOWN, NUM_KNOWN + NUM_NEW)
VAL = examples(dict.fromkeys([*KNOWN, *NEW], 40), 2)


@pytest.mark.parametrize(("num", "floor"), [(60, 0.97), (10, 0.93), (3, 0.85), (1, 0.7)])
def test_new_species_are_found_and_trained_ones_keep_their_names(num: int, floor: float) -> None:
    rows = fit_rows(examples(dict.fromkeys(KNOWN, 60) | dict.fromkeys(NEW, num), 1), VAL, NUM_NEW)
    assert (rows.weight.shape, rows.bias.shape) == ((NUM_NEW, SIZE), (NUM_NEW,))
    new, before, after = accuracy(rows)
    assert new >= floor
    assert after >= before - 0.02


def test_photographs_that_the_rows_were_not_fitted_on_decide_how_sure_new_species_are() -> None:
    train = examples(dict.fromkeys(KNOWN, 60) | dict.fromkeys(NEW, 10), 1)
    rows = fit_rows(train, VAL, NUM_NEW)
    assert rows.num_held_out == 40 * NUM_NEW
    logits = VAL.embedding @ rows.weight.T + rows.bias
    raw = (logits - rows.shift) / rows.scale
    assert loss(VAL, logits) < loss(VAL, raw)


def loss(examples: Examples, logits: np.ndarray) -> float:
    total = np.logaddexp(examples.known.total, np.log(np.exp(logits).sum(axis=1)))
    own = np.where(examples.new >= 0, logits[np.arange(len(logits)), examples.new], examples.known.own)
    return float((total - own).mean())


def test_without_validation_photographs_of_new_species_halves_of_their_training_photographs_stand_for_them() -> None:
    val = examples(dict.fromkeys(KNOWN, 40), 2)
    rows = fit_rows(examples(dict.fromkeys(KNOWN, 60) | dict.fromkeys(NEW, 10), 1), val, NUM_NEW)
    assert rows.num_held_out == 10 * NUM_NEW
    new, before, after = accuracy(rows)
    assert new >= 0.9
    assert after >= before - 0.02


def test_a_new_species_with_one_occurrence_and_nothing_else_is_found_as_far_as_trained_ones_allow() -> None:
    val = examples(dict.fromkeys(KNOWN, 100), 2)
    train = examples(dict.fromkeys(KNOWN, 60) | {NUM_KNOWN: 2}, 1, per_occurrence=2)
    rows = fit_rows(train, val, 1)
    assert rows.num_held_out == 0
    named = np.concatenate([known_logits(val.embedding), val.embedding @ rows.weight.T + rows.bias], axis=1).argmax(1)
    lost = (known_logits(val.embedding).argmax(1) == np.repeat(KNOWN, 100)) & (named == NUM_KNOWN)
    assert lost.sum() <= head_rows.MAX_LOST * len(val)
    embedding, _ = draw({NUM_KNOWN: 300}, 5)
    assert ((embedding @ rows.weight.T + rows.bias)[:, 0] > known_logits(embedding).max(axis=1)).mean() > 0.6


def test_trained_species_lose_no_more_than_the_share_that_is_allowed() -> None:
    # Ten times as many validation photographs of new species than of trained ones: by the loss alone, the new ones
    # would take photographs of the others.
    val = examples(dict.fromkeys(KNOWN, 20) | dict.fromkeys(NEW, 400), 2)
    rows = fit_rows(examples(dict.fromkeys(KNOWN, 60) | dict.fromkeys(NEW, 1), 1), val, NUM_NEW)
    is_known = val.new < 0
    right = (val.known.own == val.known.largest) & is_known
    lost = right & ((val.embedding @ rows.weight.T + rows.bias).max(axis=1) > val.known.largest)
    assert lost.sum() <= 1


def test_without_any_validation_photographs_rows_are_finite() -> None:
    none = examples({}, 2)
    rows = fit_rows(examples(dict.fromkeys(KNOWN, 60) | dict.fromkeys(NEW, 1), 1), none, NUM_NEW)
    assert np.isfinite(rows.weight).all()
    assert np.isfinite(rows.bias).all()
    assert (rows.scale, rows.shift) == (1.0, 0.0)


def test_prototypes_get_one_shift() -> None:
    logits = VAL.embedding @ CENTRES[NUM_KNOWN:].T / SPREAD**2
    shift = fit_shift(logits, VAL)
    lost = (VAL.known.own == VAL.known.largest) & ((logits + shift).max(axis=1) > VAL.known.largest) & (VAL.new < 0)
    assert lost.sum() <= max(1, head_rows.MAX_LOST * (VAL.new < 0).sum())
    hit = ((logits + shift).max(axis=1) > VAL.known.largest)[VAL.new >= 0]
    assert hit.mean() > 0.9


def test_the_slope_of_the_fit_is_right() -> None:
    from scipy import optimize

    train = examples(dict.fromkeys(KNOWN, 8) | dict.fromkeys(NEW, 4), 3)
    train = replace(train, embedding=train.embedding.astype(np.float64))
    found: list[float] = []
    original = optimize.minimize

    def check(loss: object, start: np.ndarray, **given: object) -> object:
        point = start + np.random.default_rng(0).normal(0, 0.1, start.shape)
        found.append(optimize.check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], point))  # type: ignore[operator]
        return original(loss, start, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_rows.optimize, "minimize", check)
        head_rows._regress(train, NUM_NEW)
    assert found[0] < 1e-4
