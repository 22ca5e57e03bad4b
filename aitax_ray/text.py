"""Text from archives, servers and people, made fit for a line of a log or a terminal, or of a table."""

# What spreadsheets take for the beginning of a formula (https://owasp.org/www-community/attacks/CSV_Injection). Where
# the comma is the decimal sign they split a line at semicolons, whatever the quotes.
FORMULA = r"(^|[;\t\r\n][\s\"']*)(\s*[=+\-@＝＋－＠])|^([\t\r\n])"
DISARMED = "${1}'${2}${3}"  # with an apostrophe before the sign; for polars' replace_all


def escape_controls(text: str) -> str:
    r"""Write what does not print as an escape: line ends, codes that colour a terminal, marks that turn the writing.

    >>> escape_controls("Rana\x1b[31m alba\n")
    'Rana\\x1b[31m alba\\n'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
