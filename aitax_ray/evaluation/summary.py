"""The evaluation in sentences: what a manager reads in a minute, and what to do next. Each follows from the figures."""

from typing import Any

RELIABLE_AUROC = 0.9
MANY_SUSPECTS = 5
SMALL_TEST = 100  # occurrences
LARGE_ECE = 0.05

Figure = dict[str, Any] | None


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share as percent; "unknown" for None.

    >>> percent(0.98765), percent(1.0), percent(0.99999), percent(None)
    ('98.8 %', '100 %', 'more than 99.9 %', 'unknown')
    """
    if value is None:
        return "unknown"
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    least = 10.0**-digits
    if 100 * value < least:
        return f"less than {least:g} %"
    if 100 * value > 100 - least:
        return f"more than {100 - least:g} %"
    return f"{100 * value:.{digits}f} %"


def with_interval(figure: Figure) -> str:
    """Write a figure with its interval.

    >>> with_interval({"value": 0.9, "low": 0.85, "high": 0.94})
    '90.0 % (85.0 to 94.0 %)'
    """
    if not figure or figure["value"] is None:
        return "unknown"
    if figure["low"] is None or figure["low"] == figure["high"]:
        return percent(figure["value"])
    return f"{percent(figure['value'])} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f} %)"


def summarize(metrics: dict[str, Any]) -> list[str]:
    """Say in a few sentences how good the engine is, when it can be believed, and what it does not know."""
    counts, photographs = metrics["counts"], metrics["photographs"]
    said = [
        f"The first name is right for {with_interval(photographs['top1'])} of the photographs; the right name is among "
        f"the first five for {with_interval(photographs['top5'])}. This was measured on {counts['test']:,} photographs "
        f"of {counts['test_occurrences']:,} occurrences that training has not used."
    ]
    if counts["test_occurrences"] < SMALL_TEST:
        said[-1] += " That is a small test: trust the intervals, not the figures."
    said.append(
        f"When each species counts the same, the first name is right for {with_interval(photographs['macro_top1'])}."
    )
    untested = counts["species_without_test"]
    if untested:
        said[-1] += (
            f" Nothing is known about {untested:,} of {counts['species']:,} species, which have no test photograph."
        )
    accepted = metrics["acceptance"]
    if accepted["species_with_threshold"]:
        said.append(
            f"{accepted['species_with_threshold']:,} of {counts['species']:,} species have a score from which on an "
            f"answer can be accepted without a look: {with_interval(accepted['share'])} of the answers reach it, and "
            f"{with_interval(accepted['precision'])} of these are right."
        )
    else:
        said.append(
            "For no species there are enough validation photographs to say from which score on an answer can be "
            "accepted without a look."
        )
    said.append(_say_scores(metrics))
    said.append(_say_unknown(metrics["rejection"]))
    changes = metrics.get("changes")
    if changes and changes["num_photographs"]:
        said.append(_say_changes(changes))
    return said


def _say_scores(metrics: dict[str, Any]) -> str:
    error = metrics["calibration"]["after"]["ece"]
    if not metrics["counts"]["val"]:
        return str(metrics["calibration"]["trust"])
    if error["value"] is None:
        return "Whether scores can be read as probabilities is not known."
    size = "Scores can be read as probabilities" if error["value"] < LARGE_ECE else "Scores are not yet probabilities"
    if metrics["calibration"]["is_rough"]:
        size = "Validation is too small to make probabilities of the scores"
    return f"{size}: they are off by {with_interval(error)} on average."


def _say_unknown(rejection: dict[str, Any]) -> str:
    if not rejection.get("num_unknown"):
        return (
            "What the engine says of a species that it does not know was not measured: no species was held out. "
            "It will name one of its own species."
        )
    found = with_interval(rejection["unknown_rejected"])
    return (
        f"Of photographs of species that the engine does not know it rejects {found}, when it may reject "
        f"{with_interval(rejection['false_reject_rate'])} of those that it knows."
    )


def _say_changes(changes: dict[str, Any]) -> str:
    found = changes["top1"]
    where = f"on the {changes['num_photographs']:,} photographs that both were tested with"
    if found["value"] is None:
        return f"It cannot be compared with {changes['against']} {where}."
    if changes["is_significantly_worse"]:
        verdict = "is worse than"
    elif found["low"] is not None and found["low"] > 0:
        verdict = "is better than"
    else:
        verdict = "cannot be told apart from"
    points = f"{100 * found['value']:+.1f} points"
    if found["low"] is not None:
        points += f", {100 * found['low']:+.1f} to {100 * found['high']:+.1f}"
    return f"It {verdict} the engine {changes['against']} ({points}) {where}."


def advise(metrics: dict[str, Any]) -> list[str]:
    """Say what would make the engine better, most useful first."""
    counts, advice = metrics["counts"], []
    few = next((part for part in metrics["frequency"] if part["name"] == "few"), None)
    if metrics["num_suspects"]:
        advice.append(
            f"Look at the {metrics['num_suspects']:,} training photographs whose label is in doubt (suspects.csv)."
        )
    if few and few["num_species"]:
        advice.append(
            f"Collect photographs of the {few['num_species']:,} species with fewer than 20 training photographs."
        )
    if counts["species_without_test"]:
        advice.append(
            f"Collect photographs of {counts['species_without_test']:,} species that could not be tested: a species "
            "needs three occurrences to have one in the test."
        )
    if metrics["lookalikes"]["groups"]:
        advice.append(
            f"Let experts say whether the {len(metrics['lookalikes']['groups']):,} groups of look-alikes can be told "
            "apart from photographs at all."
        )
    if not counts["species_held_out"]:
        advice.append("Run `aitax split --holdout-species 5` once, to learn what the engine says of unknown species.")
    if not counts["val"]:
        advice.append("Give validation photographs (`aitax split --val 0.1`): without them scores mean little.")
    return advice
