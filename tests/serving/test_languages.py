"""serving.languages: common names in the language of a request."""

import pytest

from aitax_ray.engine.bundle import Taxon
from aitax_ray.serving.languages import TO_THREE, choose_language, common_names, list_languages

NAMES = (("deu", "Grasfrosch"), ("eng", "common frog"), ("fra", "grenouille rousse"), ("qqq", "?"))


def taxon(*names: tuple[str, str], own: str = "") -> Taxon:
    return Taxon("1", "Rana temporaria", "Rana temporaria L.", "L.", "SPECIES", own, "Rana", "Ranidae", names)


def test_the_table_has_each_code_of_iso_639_1_once() -> None:
    assert len(TO_THREE) == len(set(TO_THREE.values())) == 183
    assert all(len(two) == 2 and len(three) == 3 for two, three in TO_THREE.items())
    assert [TO_THREE[code] for code in ("en", "fr", "de", "es", "nl", "zh", "cs")] == [
        *("eng", "fra", "deu", "spa", "nld", "zho", "ces")
    ]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("fr", "fr"),
        ("FR", "fr"),
        ("fr-CA", "fr"),
        ("pt_BR", "pt"),
        ("fra", "fr"),
        ("xx", "en"),
        ("", "en"),
        ("é", "en"),
    ],
)
def test_a_language_is_found_however_it_is_written(wanted: str, code: str) -> None:
    assert choose_language(wanted) == code


def test_a_name_is_in_the_language_that_is_asked_for_else_english_else_any() -> None:
    assert common_names(taxon(*NAMES), "fr") == ["grenouille rousse"]
    assert common_names(taxon(*NAMES), "es") == ["common frog"]
    assert common_names(taxon(NAMES[0], own="brown frog"), "fr") == ["brown frog"]
    assert common_names(taxon(NAMES[0]), "fr") == ["Grasfrosch"]
    assert common_names(taxon(), "fr") == []


def test_the_languages_are_those_of_the_names_and_english() -> None:
    assert list_languages([taxon(*NAMES), taxon(NAMES[2])]) == ["de", "en", "fr"]
    assert list_languages([]) == ["en"]
