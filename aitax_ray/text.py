"""Text from archives, servers and people, made fit for a line of a log or a terminal, or of a table."""

import os
from unicodedata import normalize

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


def decode_file_name(name: str) -> str:
    """Return a file name as text in Unicode's form NFC, whatever bytes it is made of.

    Macs store names in the form NFD, and people type NFC. Names from old archives may be in Windows-1252.
    """
    raw = os.fsencode(name)
    for encoding in ("utf-8", "cp1252"):
        try:
            return normalize("NFC", raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")
