"""The caveats of a data set: what an engine trained on it can and cannot identify, in sentences."""

from typing import Any

from aitax_ray.dataset.reasons import CONFLICT

FEW = 10  # photographs to train on; a class with fewer is learnt badly


def list_caveats(facts: dict[str, Any]) -> list[str]:
    """Describe in sentences what an engine trained on this data set can and cannot identify.

    A sentence is left out when it would be about nothing, such as no unused species.
    """
    summary, sides, years = facts["species_summary"], facts["sides"], facts["years"]
    images = sum(side["num_images"] for side in sides.values())
    known = {name: images - facts[name]["num_unknown"] for name in ("hosts", "countries", "bases")}
    place, occurrences = facts["map"], facts["map"]["num_occurrences"]
    few, untested, not_open = (
        summary["with_few_to_train"], summary["without_test"], images - facts["licenses"]["num_open"],
    )  # fmt: skip
    sentences = [
        f"It knows {_many(summary['num'], 'species')} and gives one of them as its answer to whatever it is shown, "
        "also to other species."
    ]
    if unused := facts["unused_species"]["num"]:
        sentences.append(
            f"{unused:,} other species that {'was' if unused == 1 else 'were'} asked for or stored {_are(unused)} not "
            "among them: no photograph was left "
            f"(mostly: {plain(facts['unused_species']['reasons'][0]['reason'])})."
        )
    if few:
        sentences.append(
            f"{_of(few, summary['num'], 'species')} {_have(few)} fewer than {FEW} photographs to train on: "
            f"expect {'it' if few == 1 else 'them'} to be recognised badly."
        )
    if summary["num"] > 1:
        sentences.append(
            f"Half of all photographs show {_many(summary['with_half_of_the_images'], 'species')}: in doubt, an engine "
            "leans towards what it has seen often."
        )
    if untested:
        sentences.append(
            f"{_of(untested, summary['num'], 'species')} {_have(untested)} no photograph to test with: "
            f"how well {'it is' if untested == 1 else 'they are'} recognised is not measured."
        )
    if parted := facts["num_groups_parted"]:
        sentences.append(
            f"{_many(parted, 'groups')} of photographs that belong together {_are(parted)} on several sides: "
            "what is measured flatters it."
        )
    where = {"hosts": "lie on one host", "countries": "were taken in one country", "bases": "have one basis of record"}
    for name, what in where.items():
        if facts[name]["top"]:
            first = facts[name]["top"][0]
            sentences.append(
                f"{share(first['num_images'], known[name])} of the photographs"
                f"{'' if known[name] == images else ' for which it is known'} {what}, {first['name']}."
            )
    if years["counts"]:
        first, last = _middle(years["counts"])
        when = f"from {first} to {last}" if first != last else f"in {first}"
        sentences.append(f"Nine of ten photographs whose year is known were taken {when}.")
    if num := years["num_unknown"] + years["num_several"]:
        sentences.append(f"The year of {_of(num, images, 'photographs')} is not known.")
    if num := place["num_unknown"] + place["num_at_zero"]:
        sentences.append(f"The place of {_of(num, occurrences, 'occurrences')} is not known.")
    if num := facts["clusters"][CONFLICT]["num_images"]:
        sentences.append(
            f"{_many(num, 'photographs')} stood under several species and {_are(num)} left out: "
            "that some others stand under a wrong one is likely."
        )
    if not_open:
        sentences.append(
            f"{_of(not_open, images, 'photographs')} {_have(not_open)} no open licence, or none that is known: "
            "their terms, such as no commercial use, may bear on what is made from them."
        )
    return sentences


def _middle(counts: list[list[int]]) -> tuple[int, int]:
    """Find the years between which the middle 90 percent of the photographs lie."""
    import numpy as np

    running = np.cumsum([number for _, number in counts])
    first, last = (np.searchsorted(running, running[-1] * share) for share in (0.05, 0.95))
    return counts[int(first)][0], counts[int(last)][0]


def share(number: int, total: int) -> str:
    """Give a share in percent. It says 0 % or 100 % only when it is exactly none or all.

    >>> share(1, 1000), share(2, 3), share(999, 1000), share(5, 5)
    ('less than 1 %', '67 %', 'more than 99 %', '100 %')
    """
    percent = 100 * number / max(total, 1)
    if number and percent < 1:
        return "less than 1 %"
    return "more than 99 %" if number < total and percent > 99 else f"{percent:.0f} %"


def _of(number: int, total: int, what: str) -> str:
    return f"{number:,} of {_many(total, what)} ({share(number, total)})"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what.removesuffix('s') if number == 1 and what != 'species' else what}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def plain(reason: str) -> str:
    """Write a reason for people: blanks for underscores."""
    return reason.replace("_", " ")
