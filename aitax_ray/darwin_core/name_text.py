"""Cleans the text of a scientific name before GBIF's parser reads it, and spells the words that the parser finds."""

import html
import re
import unicodedata

MAX_ESCAPES = 3  # "&amp;lt;i&amp;gt;" was escaped twice
_TAG = re.compile(r"</?(?:i|em|b|strong|u|span|font|sub|sup|small|p|br|a)\b[^<>]*>", re.IGNORECASE)
# The whole name in quotes or brackets, and no other ones within.
_QUOTED = re.compile(r"""["'“„«]+([^"'”“»]*)["'”“»]+|\(([^()]*)\)|\[+([^][]*)\]+|{([^{}]*)}""")
_QUOTED_GENUS = re.compile(r"""^["'](\w+)["'] """)
_AROUND = " *~†"
_LOOKALIKES = str.maketrans(dict.fromkeys("’‘ʼ`´ʹ′", "'") | dict.fromkeys("✕✖⨉", "×"))
# What accents and ligatures stand for, apart from what Unicode decomposes.
_LETTERS = str.maketrans(
    {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "oe", "Ø": "Oe", "ß": "ss", "ł": "l", "Ł": "L", "đ": "d"}
    | {"ð": "d", "þ": "th", "ı": "i", "'": "", ".": ""}
)
_CODE = re.compile(r"\S+ \d+")  # "OTU 123"
_YEAR = r"(?=,? \(?(?:1[5-9]|20)\d\d\b)"
_AUTHORS = re.compile(rf"\([^()]*\d{{4}}\)|[^\W\d][\w'.-]*{_YEAR}")  # in brackets with a year, or before a year
_LATE_AUTHOR = re.compile(rf"^(\w+ [\w-]+ )(\w+{_YEAR})")  # "Rana temporaria linnaeus, 1758"
# Endings that epithets have and authors do not, unless a year or another author follows.
_LATIN_ENDING = (
    r"(?:(?:ii|iae|ensis|ense|oides|(?:ian|foli|flor|phyll|carp)(?:a|us|um)"
    r"|[a-z]{2}(?:aria|oria|atus|atum|icus|icum|alis|aris|escens|ifera|iferum|iformis|aceus|acea|stris))\b"
    rf"(?! ?[,&]|{_YEAR}))"
)
# Spellings that the parser misreads. The group of the first ones gets small letters.
_SMALL = (
    re.compile(r"\b(Var|Subsp|Ssp|Forma|Cf|Aff|Sp|Spp)\."),
    re.compile(rf"^[^\W\d]+ ([A-Z])[a-z]+{_LATIN_ENDING}"),  # "Gardenia Ternifolia"
    re.compile(r"^[^\W\d]+ ([A-Z])[a-z]+ ?\([^()\d]*\) ?[^\W\d(]"),  # "Drynaria Laurenti (Christ) Hieron"
    re.compile(r"^\w+ ([A-Z])[-'][a-z]{3}"),  # "Polygonia C-album", "Phrynosoma M'callii"
    re.compile(r"^\w+ (\d+-[A-Z]\w+)"),  # "Coccinella 7-PUNCTATA"
)
_REPLACED = (
    (re.compile(r"^(\w+ (?:[a-z]+-)?[a-z]{5,})(?=[A-Z](?:[a-z]+\b|\.))"), r"\1 "),  # "Rana temporariaLinnaeus, 1758"
    (re.compile(r"^(\w+) \[[A-Z][a-z]+\] (?=[a-z])"), r"\1 "),  # a subgenus: "Rana [Pelophylax] esculenta"
    (re.compile(r"^(\w+ [a-eg-wyz]) (?=[a-z]{3})"), r"\1-"),  # "Polygonia c album"; x is a hybrid, f. a form
    (re.compile(r"(?<=[a-z])[ -](?:arten)?(?:gruppe|aggregat|komplex)\b", re.IGNORECASE), " agg."),
    (re.compile(r"(?<![xX×]) \([^()]* [xX×] [^()]*\)$"), ""),  # "Salix ×rubens (S. alba × S. fragilis)"
    (re.compile(r"^(\w+ \d+) ?- ?(?=[a-z])"), r"\1-"),  # "Coccinella 7 - punctata"
    # Other ways to mark a hybrid: "Pelophylax kl. esculentus", "Quercus x. bebbiana", "Quercus xbebbiana".
    (
        re.compile(
            r"^(\w+) (?:(?:(?:syn)?kl(?:epton)?\.?|x\.|\[x\]|nothosp\.|hybr\.) (?=[a-z])|x(?=[b-df-hj-np-tvwz]))"
        ),
        r"\1 ",
    ),
    (re.compile(r" (?:ssp|subsp|var)\.? (?:indet|undet)\.?$"), ""),
)


def clean(text: str) -> str:
    """Remove markup, quotes around the text and odd blanks, and bring the rest into Unicode's form NFKC."""
    for _ in range(MAX_ESCAPES):
        if text == (text := html.unescape(text)):
            break
    text = _TAG.sub(" ", text).translate(_LOOKALIKES).replace("\u200b", " ").replace("\ufffd", "?")
    if not text.isascii():
        text = "".join(" " if unicodedata.category(c) == "So" else c for c in text)  # "♀", "™"
    text = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text if unicodedata.category(c) != "Cf")
    text = " ".join(text.replace("_", " ").split()).strip(_AROUND)
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[quoted.lastindex or 0].strip()
    return _QUOTED_GENUS.sub(r"\1 ", text)


def repair(text: str) -> str:
    """Mend the spellings that GBIF's parser misreads: "RANA TEMPORARIA LINNAEUS, 1758" gets the usual capitals.

    A single word stays unchanged, because it may be a code or a word that is no name.
    """
    if " " in text and (text.isupper() or text.islower()) and not _CODE.fullmatch(text):
        text = _AUTHORS.sub(lambda found: found[0].title(), text.capitalize())
    text = _LATE_AUTHOR.sub(lambda found: found[1] + found[2].capitalize(), text)
    for pattern in _SMALL:
        if found := pattern.search(text):
            text = text[: found.start(1)] + found[1].lower() + text[found.end(1) :]
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return text


def fold(word: str) -> str:
    """Spell a word as the codes of nomenclature do, without accents: "Isoëtes" is "Isoetes", "mülleri" is "muelleri".

    An umlaut becomes ae, oe or ue (ICN article 60.7, ICZN article 32.5.2.1), a diaeresis after a vowel is dropped,
    and so are accents, apostrophes and points.
    """
    if word.isascii():
        return word.translate(_LETTERS)
    found: list[str] = []
    for letter in unicodedata.normalize("NFC", word):
        decomposed = unicodedata.normalize("NFD", letter)
        base, marks = decomposed[0], decomposed[1:]
        is_umlaut = "\u0308" in marks and base in "aouAOU" and not (found and found[-1][-1:] in "aeiouAEIOU")
        found.append(base + "e" if is_umlaut else base)
    return "".join(found).translate(_LETTERS)
