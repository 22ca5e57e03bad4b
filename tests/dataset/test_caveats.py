from pathlib import Path

import pytest

from aitax_ray.dataset.caveats import list_caveats, share
from aitax_ray.dataset.facts import gather
from aitax_ray.workspace import Outcome
from tests.dataset.test_facts import make_world


def test_the_sentences_say_what_the_numbers_say(tmp_path: Path) -> None:
    facts = gather(make_world(str(tmp_path)), {"seed": 7}, Outcome(counts={"species": 2}))
    said = "\n".join(list_caveats(facts))
    for part in (
        "It knows 2 species",
        "3 other species that were asked for or stored are not among them",
        "2 of 2 species (100 %) have fewer than 10 photographs to train on",
        "57 % of the photographs lie on one host, one.example.",
        "50 % of the photographs for which it is known were taken in one country, DE.",
        "The year of 3 of 7 photographs (43 %) is not known.",
        "The place of 2 of 5 occurrences (40 %) is not known.",
        "2 photographs stood under several species and are left out",
        "3 of 7 photographs (43 %) have no open licence",
    ):
        assert part in said
    assert "to test with" not in said  # both species are tested
    assert "on several sides" not in said


@pytest.mark.parametrize(
    ("number", "total", "said"),
    [
        (0, 5, "0 %"),
        (1, 1000, "less than 1 %"),
        (2, 3, "67 %"),
        (999, 1000, "more than 99 %"),
        (5, 5, "100 %"),
        (0, 0, "0 %"),
    ],
)
def test_a_share_says_all_and_none_only_when_it_is(number: int, total: int, said: str) -> None:
    assert share(number, total) == said
