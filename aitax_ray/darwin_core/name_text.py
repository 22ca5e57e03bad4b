"""The text of a scientific name before GBIF's parser sees it: markup, blanks, capitals and accents."""

import html
import re
import unicodedata

MAX_ESCAPES = 3  # "&amp;lt;i&amp;gt;" was escaped twice
_TAG = re.compile(r"</?(?:i|em|b|strong|u|span|font|sub|sup|small|p|br|a)\b[^<>]*>", re.IGNORECASE)
_WRAPPED = re.compile(r"""(["'“„«‘*])(.*)["'”“»’*]""")
_QUOTED_GENUS = re.compile(r"""^["'](\w+)["'] """)
_AROUND = " *~†"
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´ʹ′", "'"))
_CAPITAL_MARK = re.compile(r"\b(?:Var|Subsp|Ssp|Forma|Cf|Aff|Sp|Spp)\.")
# "Gardenia Ternifolia", "Drynaria Laurentii (Christ) Hieron": epithets, since no author is called so or cited so.
_CAPITAL_EPITHET = re.compile(
    r"^([^\W\d]+ )([A-Z][a-z]+(?:(?:ii|iae|ensis|ense|oides)\b|(?:ian|foli|flor|phyll|carp)(?:a|us|um)\b"
    r"| ?\([^()\d]*\) ?[^\W\d(]))"
)
_KLEPTON = re.compile(
    r"^(\w+) (?:syn)?kl(?:epton)?\.? (?=[a-z])"
)  # "Pelophylax kl. esculentus", a hybrid that breeds on
_ALBUM = re.compile(r"^(\w+ [a-eg-wyz]) (?=[a-z]{3})")  # "Polygonia c album" is c-album; x is a hybrid, f. a form
_CAPITAL_LETTER = re.compile(r"^\w+ [A-Z](?=-[a-z]{3})")  # "Polygonia C-album"
# Words that are authors' for sure: before a year, in brackets with a year, or shortened.
_YEAR = r"(?=,? \(?(?:1[5-9]|20)\d\d\b)"
_BEFORE_YEAR = re.compile(rf"[^\W\d][\w'.-]*{_YEAR}")
_THIRD_BEFORE_YEAR = re.compile(rf"^(\w+ [\w-]+ )(\w+{_YEAR})")
_CODE = re.compile(r"\S+ \d+")
_WITH_YEAR = re.compile(r"\([^()]*\d{4}\)")
_LETTERS = str.maketrans(
    {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "oe", "Ø": "Oe", "ß": "ss", "ł": "l", "Ł": "L", "đ": "d"}
    | {"ð": "d", "þ": "th", "ı": "i", "'": "", ".": ""}
)


def clean(text: str) -> str:
    """The text in NFKC, without markup and quotes around it, single blanks between its words."""
    for _ in range(MAX_ESCAPES):
        if text == (text := html.unescape(text)):
            break
    text = unicodedata.normalize("NFKC", _TAG.sub("", text).translate(_APOSTROPHES)).translate(_APOSTROPHES)
    text = text.replace("\u200b", " ").replace("\ufffd", "?")
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text if unicodedata.category(c) != "Cf")
    text = " ".join(text.replace("_", " ").split()).strip(_AROUND)
    wrapped = _WRAPPED.fullmatch(text)
    text = wrapped[2].strip() if wrapped and wrapped[1] not in wrapped[2] else text
    return _QUOTED_GENUS.sub(r"\1 ", text)


def restore_case(text: str) -> str:
    """A name in capitals or small letters, as names are written: "RANA TEMPORARIA LINNAEUS, 1758", "rana temporaria".

    A single word stays as it is: it may be a code or a word that is no name.
    """
    if " " in text and (text.isupper() or text.islower()) and not _CODE.fullmatch(text):
        text = text.capitalize()
        text = _WITH_YEAR.sub(lambda found: found[0].title(), text)
        text = _BEFORE_YEAR.sub(lambda found: found[0].capitalize(), text)
    text = _THIRD_BEFORE_YEAR.sub(lambda found: found[1] + found[2].capitalize(), text)
    text = _CAPITAL_MARK.sub(lambda found: found[0].lower(), text)
    text = _CAPITAL_EPITHET.sub(lambda found: found[1] + found[2][0].lower() + found[2][1:], text)
    text = _CAPITAL_LETTER.sub(lambda found: found[0].capitalize(), text)
    return _KLEPTON.sub(r"\1 ", _ALBUM.sub(r"\1-", text))


def fold(word: str) -> str:
    """Spell a word as the codes of nomenclature do, without accents: "Isoëtes" is "Isoetes", "mülleri" is "muelleri".

    An umlaut becomes ae, oe or ue (ICN article 60.7, ICZN article 32.5.2.1), a diaeresis after a vowel is dropped,
    and so are accents, apostrophes and points.
    """
    found: list[str] = []
    for letter in unicodedata.normalize("NFC", word):
        decomposed = unicodedata.normalize("NFD", letter)
        base, marks = decomposed[0], decomposed[1:]
        is_umlaut = "\u0308" in marks and base in "aouAOU" and not (found and found[-1][-1:] in "aeiouAEIOU")
        found.append(base + "e" if is_umlaut else base)
    return "".join(found).translate(_LETTERS)
