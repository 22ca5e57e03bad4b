"""Answers questions with a fusion, a vote and a taxonomy, block by block: from embeddings to `Answers`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from scipy import optimize, sparse

from aitax_ray.evaluation.answers import Answers, Taxonomy
from aitax_ray.evaluation.fusion import RULES, Fusion, Rule
from aitax_ray.evaluation.neighbors import TINY, Neighbors, Vote
from aitax_ray.evaluation.questions import Photographs, Questions, ask_alone, ask_together

TOP = 5
LOG_TEMPERATURES = (np.log(0.2), np.log(5.0))
STEP = 0.05  # of the log of a temperature, to measure how sharply it is defined
MAX_FITTED = 20_000  # questions that temperatures are fitted on
MIN_GAIN = 0.01  # of the negative log-likelihood, by which a rule must be better than the mean of probabilities
MIN_FITTED = 20  # occurrences with several photographs from which on a rule and a temperature are chosen for them

Observer = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""Takes the probabilities (Q, K) of each block, those before calibration (Q, K), and the right classes (Q,)."""


@dataclass(frozen=True)
class Side:
    """The photographs of one side of the split, and their nearest training photographs if these were searched."""

    photographs: Photographs
    neighbors: Neighbors | None
    num_train: np.ndarray
    """int64 (K,): training photographs per class."""


@dataclass(frozen=True)
class FittedFusion:
    """A fusion, and how it was found."""

    fusion: Fusion
    losses: dict[Rule, float]
    """Negative log-likelihood of occurrences with several photographs on validation, by rule; empty if too few."""
    num_questions: tuple[int, ...]
    """Questions that each temperature was fitted on; 0 where it was taken over from fewer photographs."""
    log_errors: tuple[float | None, ...]
    """Standard error of the log of each temperature."""


def probabilities(side: Side, block: Questions, fusion: Fusion, vote: Vote) -> np.ndarray:
    """Compute the probabilities (Q, K) of a block of questions."""
    scores = fusion.probabilities(side.photographs.logits(block.rows), block.starts)
    if vote.share and side.neighbors is not None:
        votes = side.neighbors.select(block.rows).votes(vote.power, side.num_train)
        votes = np.add.reduceat(votes, block.starts, axis=0) / block.sizes[:, None]
        scores = vote.join(scores, votes)
    return np.asarray(scores, np.float32)


def fit_fusion(side: Side, vote: Vote) -> FittedFusion:
    """Fit the temperatures on validation photographs, and choose the rule for several photographs.

    Too few occurrences with several photographs leave the mean of probabilities and the temperature of one photograph.
    """
    one = ask_alone(side.photographs)
    several = [ask_together(side.photographs, 2, 2), ask_together(side.photographs, 3)]
    first = _fit_temperature(side, one, vote, Fusion(), 0)
    num, errors = [len(one), 0, 0], [first.log_error, None, None]
    losses: dict[Rule, float] = {}
    temperatures, rule = [first.temperature] * 3, RULES[0]
    if len(several[0]) >= MIN_FITTED:
        fitted = {}
        for candidate in RULES:
            start = Fusion(rule=candidate, temperatures=tuple(temperatures))
            fitted[candidate] = _fit_temperature(side, several[0], vote, start, 1)
        rule = _choose_rule({name: found.losses for name, found in fitted.items()})
        losses = {name: float(found.losses.mean()) for name, found in fitted.items() if len(found.losses)}
        temperatures[1:] = [fitted[rule].temperature] * 2
        num[1], errors[1] = len(several[0]), fitted[rule].log_error
        if len(several[1]) >= MIN_FITTED:
            start = Fusion(rule=rule, temperatures=tuple(temperatures))
            last = _fit_temperature(side, several[1], vote, start, 2)
            temperatures[2], errors[2], num[2] = last.temperature, last.log_error, len(several[1])
    fusion = Fusion(rule=rule, temperatures=tuple(round(float(t), 4) for t in temperatures))
    return FittedFusion(fusion, losses, tuple(num), tuple(errors))


def _choose_rule(losses: Mapping[Rule, np.ndarray]) -> Rule:
    """Choose the rule with the smallest mean loss. It must be better than the first one beyond chance, by MIN_GAIN."""
    if len(losses[RULES[0]]) < 2:
        return RULES[0]
    best = min(RULES, key=lambda name: round(float(losses[name].mean()), 4))
    gain = losses[RULES[0]] - losses[best]
    return best if gain.mean() > max(MIN_GAIN, gain.std(ddof=1) / np.sqrt(len(gain))) else RULES[0]


@dataclass(frozen=True)
class _Fitted:
    temperature: float
    log_error: float | None
    """Standard error of the log of the temperature."""
    losses: np.ndarray
    """The negative log-likelihood of each question."""


def _fit_temperature(side: Side, questions: Questions, vote: Vote, fusion: Fusion, place: int) -> _Fitted:
    """Fit the temperature at a place of the fusion's temperatures.

    A prior of log(T) ** 2 keeps T around 1 where a few photographs are all predicted right: else the lowest
    temperature would be the best, and each answer quite sure of itself.
    """
    questions = questions.sample(MAX_FITTED)

    def losses(log_temperature: float) -> np.ndarray:
        temperatures = list(fusion.temperatures)
        temperatures[place] = float(np.exp(log_temperature))
        return _losses(side, questions, fusion.model_copy(update={"temperatures": tuple(temperatures)}), vote)

    def total(log_temperature: float) -> float:
        return float(losses(log_temperature).sum()) + log_temperature**2

    options = {"xatol": 0.005}
    found = float(optimize.minimize_scalar(total, bounds=LOG_TEMPERATURES, method="bounded", options=options).x)
    curvature = (total(found + STEP) + total(found - STEP) - 2 * total(found)) / STEP**2
    error = float(curvature**-0.5) if curvature > 0 and len(questions) else None
    return _Fitted(float(np.exp(found)), error, losses(found))


def _losses(side: Side, questions: Questions, fusion: Fusion, vote: Vote) -> np.ndarray:
    """The negative log-likelihood of each question whose logits are finite."""
    parts = [np.zeros(0)]
    for block in questions.blocks(side.photographs.num_classes):
        scores = probabilities(side, block, fusion, vote)
        right = scores[np.arange(len(block)), side.photographs.target[block.first]]
        parts.append(-np.log(np.maximum(right[scores.any(axis=1)], TINY), dtype=np.float64))
    return np.concatenate(parts)


def answer(
    side: Side, questions: Questions, fusion: Fusion, vote: Vote, taxonomy: Taxonomy, observers: Iterable[Observer] = ()
) -> Answers:
    """Answer the questions. `observers` see all probabilities, which are then forgotten."""
    uncalibrated = Fusion(rule=fusion.rule)
    members = [_members(taxonomy.genus, len(taxonomy.genera)), _members(taxonomy.family, len(taxonomy.families))]
    parts = []
    for block in questions.blocks(len(taxonomy.keys)):
        scores = probabilities(side, block, fusion, vote)
        raw = probabilities(side, block, uncalibrated, Vote())
        parts.append(_reduce(side, block, scores, raw, fusion, taxonomy, members))
        for observe in observers:
            observe(scores, raw, parts[-1].target)
    if not parts:
        return _empty(len(taxonomy.keys))
    return Answers(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Answers)})


def _reduce(
    side: Side,
    block: Questions,
    scores: np.ndarray,
    raw: np.ndarray,
    fusion: Fusion,
    taxonomy: Taxonomy,
    members: list[sparse.csr_array],
) -> Answers:
    photographs, num = side.photographs, np.arange(len(block))
    target = photographs.target[block.first]
    is_known, is_finite = target >= 0, np.asarray(scores.any(axis=1))
    top = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    best = top[:, 0]
    similarity = np.full(len(block), np.nan, np.float32)
    if side.neighbors is not None:
        nearest = np.nan_to_num(side.neighbors.similarity[block.rows, 0], nan=-1.0)
        similarity = np.maximum.reduceat(nearest, block.starts).astype(np.float32)
    genus, genus_score = _roll_up(scores, best, taxonomy.genus, members[0])
    family, family_score = _roll_up(scores, best, taxonomy.family, members[1])

    def of_target(probability: np.ndarray) -> np.ndarray:
        return np.where(is_known, probability[num, np.maximum(target, 0)], np.nan).astype(np.float32)

    return Answers(
        image_id=photographs.image_id[block.first],
        occurrence=photographs.occurrence[block.first],
        num_photographs=block.sizes,
        target=target,
        top=np.where(is_finite[:, None], top, -1).astype(np.int32),
        scores=np.take_along_axis(scores, top, axis=1),
        target_score=of_target(scores),
        sum_of_squares=np.square(scores).sum(axis=1),
        raw_score=raw.max(axis=1),
        raw_target_score=of_target(raw),
        raw_sum_of_squares=np.square(raw).sum(axis=1),
        genus=np.where(is_finite, genus, -1).astype(np.int32),
        family=np.where(is_finite, family, -1).astype(np.int32),
        genus_score=genus_score.astype(np.float32),
        family_score=family_score.astype(np.float32),
        energy=fusion.energy(photographs.logits(block.rows), block.starts),
        similarity=similarity,
    )


def _roll_up(
    scores: np.ndarray, best: np.ndarray, group: np.ndarray, members: sparse.csr_array
) -> tuple[np.ndarray, np.ndarray]:
    """Find the group (genus, family) with the largest sum of scores, and the sum for the group of the best class.

    Both are (Q,). A best class without a group has its own score; without any group the first result is -1.
    """
    rows = np.arange(len(scores))
    if not members.shape[1]:
        return np.full(len(scores), -1), scores[rows, best]
    sums = scores @ members
    own = np.where(group[best] >= 0, sums[rows, np.maximum(group[best], 0)], scores[rows, best])
    return sums.argmax(axis=1), own


def _members(group: np.ndarray, num_groups: int) -> sparse.csr_array:
    """The matrix (K, G) that sums classes to groups; a class without a group is in none."""
    classes = np.flatnonzero(group >= 0)
    ones = np.ones(len(classes), np.float32)
    return sparse.csr_array((ones, (classes, group[classes])), shape=(len(group), num_groups))


def _empty(num_classes: int) -> Answers:
    """Answers to no questions."""
    float_fields = {f.name: np.zeros(0, np.float32) for f in fields(Answers)}
    whole = {name: np.zeros(0, np.int64) for name in ("occurrence", "num_photographs", "target", "genus", "family")}
    width = min(TOP, num_classes)
    tables = {"top": np.zeros((0, width), np.int32), "scores": np.zeros((0, width), np.float32)}
    return Answers(**(float_fields | whole | tables | {"image_id": np.zeros(0, str)}))
