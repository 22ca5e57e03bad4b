"""The evaluation in sentences: what a manager reads in a minute. Each sentence follows from the figures.

A figure is a mapping of value, low and high, as in metrics.json. Any of them, and any part of metrics.json, may be
missing or null: then a sentence says that it is not known, or is left out.
"""

import math
from collections.abc import Mapping
from typing import Any

SMALL_TEST = 100  # occurrences
LARGE_ECE = 0.05
NAMED = 3  # groups and species that a sentence names

Figure = Mapping[str, Any] | None
NOT_KNOWN = "not known"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number: not None, not missing, not NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


def part(data: Any, *path: str) -> Any:
    """Give a part of nested mappings, None where there is none.

    >>> part({"after": {"ece": 0.1}}, "after", "ece"), part({"after": None}, "after", "ece")
    (0.1, None)
    """
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def count(number: int, noun: str) -> str:
    """Write a number of things.

    >>> count(1, "photograph"), count(1200, "photograph")
    ('1 photograph', '1,200 photographs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(value: Any, digits: int = 1) -> str:
    """Write a share as percent. A share that is nearly 0 or 1 is not written as 0 % or 100 %.

    >>> percent(0.98765), percent(1.0), percent(0.99999), percent(None)
    ('98.8 %', '100 %', 'more than 99.9 %', 'not known')
    """
    if not is_number(value):
        return NOT_KNOWN
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    least = 10.0**-digits
    if 100 * value < least:
        return f"less than {least:g} %"
    if 100 * value > 100 - least:
        return f"more than {100 - least:g} %"
    return f"{100 * value:.{digits}f} %"


def limits(figure: Any) -> str:
    """Write the interval of a share; "" without one, or if it has no width.

    >>> limits({"value": 0.9, "low": 0.85, "high": 0.94}), limits({"value": 1.0, "low": 1.0, "high": 1.0})
    ('85.0 to 94.0 %', '')
    """
    low, high = part(figure, "low"), part(figure, "high")
    if not (is_number(low) and is_number(high)) or low == high:
        return ""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def with_interval(figure: Any) -> str:
    """Write a share with its interval.

    >>> with_interval({"value": 0.9, "low": 0.85, "high": 0.94})
    '90.0 % (85.0 to 94.0 %)'
    """
    written, between = percent(part(figure, "value")), limits(figure)
    return f"{written} ({between})" if between else written


def summarize(metrics: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Answer in sentences what a manager asks: questions, each with its answers."""
    answers = [
        (
            "Is it good?",
            _say_accuracy(metrics) + _say_rare(metrics) + say_added(metrics) + _say_changes(part(metrics, "changes")),
        ),
        ("When can it be believed?", _say_scores(metrics) + _say_accepted(metrics) + _say_candidates(metrics)),
        ("What does it not know?", _say_unknown(metrics) + _say_weak(metrics)),
        ("What to do next?", advise(metrics)),
    ]
    return [(question, sentences) for question, sentences in answers if sentences]


def _say_accuracy(metrics: Mapping[str, Any]) -> list[str]:
    top1, top5, macro = (part(metrics, "photographs", name) for name in ("top1", "top5", "macro_top1"))
    num_species, occurrences = part(metrics, "counts", "species"), part(metrics, "counts", "test_occurrences")
    value = part(top1, "value")
    if not is_number(value):
        return ["Nobody knows yet: there is no test photograph."]
    if num_species == 1:
        return ["It knows one species and gives this name to every photograph, so no figure here says how good it is."]
    said = [f"The first name is right for {with_interval(top1)} of the test photographs."]
    if is_number(part(top5, "value")) and (num_species or 6) > 5:
        said[0] += f" The right name is among the first five for {with_interval(top5)}."
    if is_number(occurrences):
        if value in (0, 1) and occurrences and not limits(top1):
            most = percent(1 - 0.05 ** (1 / occurrences))
            what = "wrong" if value else "right"
            said.append(
                f"{'All' if value else 'None'} were right. The test has {count(occurrences, 'occurrence')}: an engine "
                f"that is {what} in up to {most} of the cases could have the same result."
            )
        elif occurrences < SMALL_TEST:
            said.append(
                f"The test has only {count(occurrences, 'occurrence')}: look at the ranges, not at single figures."
            )
    lowest = part(macro, "low") if is_number(part(macro, "low")) else part(macro, "value")
    if is_number(lowest):
        said.append(f"If every species counts the same, the first name is right for {with_interval(macro)}.")
        if num_species and lowest <= 1 / num_species:
            said.append(
                f"That may be no better than guessing, which is right for {percent(1 / num_species)}: do not use it."
            )
    return said


def _say_rare(metrics: Mapping[str, Any]) -> list[str]:
    rows = {row["name"]: row.get("macro_top1") for row in part(metrics, "frequency") or []}
    many, few = rows.get("many"), rows.get("few")
    if not (is_number(part(many, "value")) and is_number(part(few, "value"))):
        return []
    return [
        f"For species with more than 100 training photographs this is {with_interval(many)}, for species with fewer "
        f"than 20 it is {with_interval(few)}."
    ]


def say_added(metrics: Mapping[str, Any]) -> list[str]:
    """Say how well species are recognised that were added without training, and what they cost the others."""
    found = part(metrics, "added")
    number = len(part(found, "species") or [])
    if not number:
        return []
    what = f"{number:,} species were" if number > 1 else "1 species was"
    said = f"{what} added without training"
    if is_number(part(found, "top1", "value")):
        said += f": there the first name is right for {with_interval(found['top1'])}"
        number = part(found, "num_photographs")
        said += f" of {count(number, 'test photograph')}" if is_number(number) else ""
    sentences = [f"{said}."]
    before, after = (part(found, "trained", "top1", name) for name in ("before", "after"))
    if is_number(before) and is_number(after):
        sentences.append(f"For the trained species it is {percent(after)}, without the added ones {percent(before)}.")
    return sentences


def _say_changes(changes: Any) -> list[str]:
    found, number = part(changes, "top1"), part(changes, "num_photographs")
    value, low, high = (part(found, name) for name in ("value", "low", "high"))
    if not is_number(value):
        return []
    verdict = "cannot be told apart from"
    if changes.get("is_significantly_worse"):
        verdict = "is worse than"
    elif changes.get("is_significantly_better"):
        verdict = "is better than"
    points = f"{100 * value:+.1f} points"
    if is_number(low) and is_number(high):
        points += f", {100 * low:+.1f} to {100 * high:+.1f}"
    where = f" on {count(number, 'photograph')} that both were tested with" if number else ""
    said = [f"It {verdict} the engine {changes.get('against') or 'before it'}{where} ({points})."]
    added = part(changes, "added")
    if is_number(part(added, "after")):
        number = part(added, "num_photographs")
        said.append(
            "For the species that the other engine knew without training, the first name was right for "
            f"{percent(part(added, 'before'))} and is right for {percent(added['after'])}"
            + (f", of {count(number, 'photograph')}." if is_number(number) else ".")
        )
    return said


def _say_scores(metrics: Mapping[str, Any]) -> list[str]:
    calibration = part(metrics, "calibration")
    error = part(calibration, "after", "ece")
    value, trust = part(error, "value"), part(calibration, "trust")
    if part(metrics, "counts", "val") == 0 or not is_number(value) or not limits(error):
        return [trust or "It is not known whether scores can be read as probabilities."]
    if part(calibration, "is_rough"):
        said = "There are too few validation photographs to make probabilities of the scores"
    elif value < LARGE_ECE and error["high"] < 2 * LARGE_ECE:
        said = "Scores can be read as probabilities"
    else:
        said = "Scores cannot be read as probabilities"
    return [f"{said}: the mean gap between scores and shares of right answers is {with_interval(error)}."]


def _say_accepted(metrics: Mapping[str, Any]) -> list[str]:
    accepted, num_species = part(metrics, "acceptance"), part(metrics, "counts", "species")
    number = part(accepted, "species_with_threshold")
    if number is None:
        return []
    if not number:
        return ["No species has enough validation photographs to say which answers can be accepted without a check."]
    of = f" of {num_species:,}" if is_number(num_species) else ""
    said = f"{number:,}{of} species {'has' if number == 1 else 'have'} a score"
    said += " from which on answers can be accepted without a check."
    if not is_number(part(accepted, "share", "value")):
        return [said]
    said += f" {with_interval(accepted['share'])} of the test answers reach it"
    return [f"{said}; of these {with_interval(accepted.get('precision'))} are right."]


def _say_candidates(metrics: Mapping[str, Any]) -> list[str]:
    promise = part(metrics, "candidates", "promise")
    coverage, size = (part(metrics, "candidates", "plain", name) for name in ("coverage", "mean_size"))
    if not (is_number(promise) and is_number(part(coverage, "value")) and is_number(size)):
        return []
    said = [
        f"A list of candidates has {size:.1f} species on average and holds the right one for {with_interval(coverage)}."
    ]
    if is_number(part(coverage, "high")) and coverage["high"] < promise:
        said.append(f"That is less than the {percent(promise, 0)} that such a list promises.")
    return said


def _say_unknown(metrics: Mapping[str, Any]) -> list[str]:
    said, rejection, counts = list[str](), part(metrics, "rejection"), part(metrics, "counts")
    if not part(rejection, "num_unknown"):
        said.append(
            "Other species: not measured, because no species was left out of training to test this. Expect it to call "
            "them by the name of a species that it knows."
        )
    else:
        said.append(
            f"Other species: it rejects {with_interval(rejection.get('unknown_rejected'))} of their photographs. It "
            f"wrongly rejects {with_interval(rejection.get('false_reject_rate'))} of those of its own species."
        )
    untested, num_species = (part(counts, name) for name in ("species_without_test", "species"))
    if untested:
        of = f" of its {num_species:,}" if is_number(num_species) else ""
        said.append(
            f"{untested:,}{of} species {'has' if untested == 1 else 'have'} no test photograph: nothing is known there."
        )
    groups = part(metrics, "lookalikes", "groups") or []
    if groups:
        names = "; ".join(" and ".join(group["species"][:NAMED]) for group in groups[:NAMED])
        more = f"; and {len(groups) - NAMED:,} more groups" if len(groups) > NAMED else ""
        said.append(f"Look-alikes that it cannot separate: {names}{more}.")
    return said


def _say_weak(metrics: Mapping[str, Any]) -> list[str]:
    """Name the groups of photographs with figures clearly below those of all: the intervals do not overlap."""
    lowest = part(metrics, "photographs", "top1", "low")
    if not is_number(lowest):
        return []
    weak = [
        (row["top1"]["value"], kind, row)
        for kind, rows in (part(metrics, "groups") or {}).items()
        for row in rows or []
        if is_number(part(row, "top1", "high")) and row["top1"]["high"] < lowest and row["name"] not in ("", "others")
    ]
    weak.sort(key=lambda found: found[0])
    named = [f"{kind} {row['name']} ({percent(value)} right)" for value, kind, row in weak[:NAMED]]
    return [f"It is clearly weaker than on average for {', '.join(named)}."] if named else []


def advise(metrics: Mapping[str, Any]) -> list[str]:
    """Say what would make the engine better or better known, most useful first."""
    counts, said = part(metrics, "counts") or {}, list[str]()
    few: Mapping[str, Any] = next((row for row in part(metrics, "frequency") or [] if row["name"] == "few"), {})
    groups = part(metrics, "lookalikes", "groups")
    if metrics.get("num_suspects"):
        said.append(f"Check the {metrics['num_suspects']:,} training photographs with a doubtful label (suspects.csv).")
    if few.get("num_species"):
        said.append(f"Collect photographs of the {few['num_species']:,} species with fewer than 20 to train on.")
    if counts.get("species_without_test"):
        said.append(
            f"Collect more occurrences of the {counts['species_without_test']:,} species without a test photograph: a "
            "species needs at least three occurrences."
        )
    if groups:
        said.append("Ask experts whether these look-alikes can be told apart from photographs at all.")
    if not part(metrics, "rejection", "num_unknown"):
        said.append("Leave species out on purpose, to measure unknown ones: aitax split --holdout-species 5.")
    if counts.get("val") == 0:
        said.append("Set photographs aside for validation, to calibrate scores: aitax split --val 0.1.")
    return said
