"""Text from archives, servers and people, made fit for a line of a log or a terminal."""


def escape_controls(text: str) -> str:
    r"""Write what does not print as an escape: line ends, codes that colour a terminal, marks that turn the writing.

    >>> escape_controls("Rana\x1b[31m alba\n")
    'Rana\\x1b[31m alba\\n'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
