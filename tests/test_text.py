import pytest

from aitax_ray.text import escape_controls


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Weißer Frosch 白い × 'é\"\\", "Weißer Frosch 白い × 'é\"\\"),
        ("a\r\nERROR b", r"a\r\nERROR b"),
        ("\x1b]0;title\x07\x9b2J", r"\x1b]0;title\x07\x9b2J"),
        ("evil \u202egpj.exe", r"evil \u202egpj.exe"),
        ("\u2028\x85\x00\ud800\U000e0001", r"\u2028\x85\x00\ud800\U000e0001"),
    ],
)
def test_any_text_is_one_line_that_commands_no_terminal(text: str, line: str) -> None:
    assert escape_controls(text) == line
    assert line.isprintable()
