import pytest

from aitax_ray.license_titles import PHRASES, fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Atribución", "atribucion"),
        ("ＣＣ", "cc"),
        ("Œuvre", "oeuvre"),
        ("non\u200bcommercial", "noncommercial"),
        ("C\u0336", "c\u0336"),
        ("コモンズ", "コモンス"),
    ],
)
def test_spellings_of_one_word_are_written_alike(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_every_phrase_is_letters_and_digits_and_says_what_letters_say() -> None:
    assert all(key.isalnum() and fold(key) == key for key in PHRASES)
    assert {letter for letters in PHRASES.values() for letter in letters} == set("CBANDSZPUWJLFR?")


def test_no_word_that_restricts_stands_alone_in_the_table() -> None:
    words = (
        "no not non only except permission reserved prohibited without sin sans ohne ei ej nie не 禁止 metadata in na"
    )
    assert not {fold(word) for word in words.split()} & PHRASES.keys()
