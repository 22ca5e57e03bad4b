import pytest

from aitax_ray.darwin_core.no_names import cannot_be_epithet, cannot_begin_name


@pytest.mark.parametrize(
    "word", ["to", "unknown", "unidentified", "indeterminado", "unbestimmte", "species", "sp", "cf"]
)
def test_words_that_are_no_names_are_neither_at_the_beginning_nor_later(word: str) -> None:
    assert cannot_begin_name(word)
    assert cannot_be_epithet(word)


@pytest.mark.parametrize("word", ["larva", "male", "hybrid", "group", "nov"])
def test_words_that_describe_an_animal_are_no_epithets(word: str) -> None:
    assert cannot_be_epithet(word)


@pytest.mark.parametrize("word", ["pupa", "rana", "unio", "identica", "spinosa"])
def test_genera_that_look_like_such_words_begin_names(word: str) -> None:
    assert not cannot_begin_name(word)


@pytest.mark.parametrize("word", ["incognita", "ignota", "dubia", "incerta", "indeterminata", "alba", "unicolor", "io"])
def test_latin_words_are_epithets(word: str) -> None:
    assert not cannot_be_epithet(word)
