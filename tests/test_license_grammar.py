import pytest

from aitax_ray.license_grammar import STATEMENTS, read


@pytest.mark.parametrize(
    ("text", "letters", "versions"),
    [
        ("cc by-nc 4.0", "CBNV", {"4.0"}),
        ("cc0 1.0 universal", "Z1W", {"1.0"}),
        ("cc by 3.5", "CBV", {"3.5"}),
        ("cc by 2020", "CB!", {""}),
        ("creative commons by a friend", "CB!!", {""}),
        ("cc by = free", "!CB!", {""}),
        ("see https://creativecommons.org/licenses/by-nd/3.0/us/.", "!CBDV", {"", "3.0"}),
        ("https://example.org/licenses/by/4.0/", "!", set()),
        ("", "", set()),
    ],
)
def test_a_text_is_read_as_letters_and_versions(text: str, letters: str, versions: set[str]) -> None:
    assert read(text) == (letters, versions)


@pytest.mark.parametrize("letters", ["CB", "CBN", "AVW", "FCACBVL", "Z1WU", "CBVN", "UZ1F", "CBCBN", "AVWC"])
def test_letters_in_an_order_that_titles_have_make_a_statement(letters: str) -> None:
    assert STATEMENTS.fullmatch(letters)


@pytest.mark.parametrize("letters", ["", "C", "N", "CN", "ZN", "ZV", "CBJ", "CB!", "F", "L"])
def test_letters_in_another_order_make_none(letters: str) -> None:
    assert not STATEMENTS.fullmatch(letters)


def test_a_long_text_that_is_no_statement_is_refused_at_once() -> None:
    assert not STATEMENTS.fullmatch("FCLCBVJLNF" * 100 + "!")
