"""Reads scientific names: which taxon a text names, and the key of that taxon in archives without a checklist.

GBIF's parser does the reading (https://github.com/gbif/name-parser-rust). This module decides which parts of a name are
certain. A name has one key, however it is spelled: the key has no authorship, rank, hybrid sign, subgenus or accent.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import nameparser

from aitax_ray.darwin_core.name_text import clean, fold, repair
from aitax_ray.darwin_core.no_names import cannot_be_epithet, cannot_begin_name, means_doubt, names_nothing
from aitax_ray.darwin_core.ranks import SPECIES

MAX_CHARS = 500  # a longer text is a description
CACHED_NAMES = 1 << 14  # rows of an archive often repeat the name of the row before
STOP_WORD = "blacklisted epithet used"  # the parser's warning about "Rana the"
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_WORD = re.compile(r"[^\W\d]+")
_GENUS = re.compile(r"[A-Z][a-z]+(-[a-z]+)*")
_EPITHET = re.compile(r"[a-z]{2,}|([a-z\d]+-)+[a-z]{2,}")
_DIGITS = re.compile(r"^(\d+)(?=[a-z])")
_ABOVE_GENUS = re.compile(r"(idae|inae|oidea|aceae|oideae|ales|phyta|mycetes|opsida)$")
# "Rana ?alba", "Rana alba (?)", "Rana alba cf.", "Rana alba ×", "Rana alba hybrid"
_DOUBTED = re.compile(r"(\S+ )?\S*\?|.*(\?\W*| [xX×]| (cf|aff)\.?)$|.*\bh[yí]brid(e?s?|os?)\b")
_ABBREVIATED = re.compile(r"\. ?[a-z]")  # what follows "prob" in "Rana prob. alba"
_IDENTIFIER = re.compile(r"((?i:urn):|[a-z][a-z+.-]*:(?=[\w/]*\d))\S*|(?i:[a-z]+://).*|www\.\S+")
_OR = "or|vel|oder|ou|eller|o|u|lub|albo|tai|nebo|alebo|ili|ali|vagy|sau|veya|vs\\.?|versus|или|або|чи|ή|又は|或"
_AND = f"{_OR}|of|and|und|et|y|e|i|och|og|en|ja|ve|és|și|и|та"
# One of several taxa: "Larus argentatus/fuscus", "Rana or Bufo", "Rana alba L.; R. nigra", "Rana alba L. or nigra".
_SEVERAL = re.compile(
    rf"(?P<genus>[^\W\d]+)(?P<epithet> [^\W\dA-Z][^\WA-Z-]*\.?)? ?(?:[/|&\\]| (?:{_AND}) )(?P<same> ?[a-z])?"
    rf"|(?P<first>(?P<initial>[^\W\d])[^\W\d]*) .*(?:[;,/|&*\\]|[ (](?:{_AND}) ) ?"
    r"(?:(?P=first) |(?P=initial)\. ?(?!(?:d|de|del|den|der|des|di|du|la|le|ten|ter|van|von|zu)\b)[a-z])"
    rf"|(?P<only>[^\W\d]+) [a-z-]{{3,}}(?:,? \(?[A-Z].* | \()(?:{_OR}) [a-z-]{{3,}}"
)
_CROSS = re.compile(r" [xX×+] ")
_CAPITAL_SECOND = re.compile(r"(\S+ )([^\W\d]{3,})(?! ?[,&(]| \d)( |$)")


@dataclass(frozen=True)
class ScientificName:
    """The certain parts of a name. A part that is missing or not certain is "".

    `canonical` is the name down to its last certain part: "Rana" for "Rana sp.". A code ("BOLD:AAA1234"), a virus or a
    hybrid of two species is `canonical` as it is written. `rank` is "" when a single word does not show it.
    """

    canonical: str = ""
    species: str = ""
    genus: str = ""
    authorship: str = ""
    rank: str = ""
    is_doubtful: bool = False  # the text names a species, but puts it in question or names several


@dataclass(frozen=True)
class Name:
    """The canonical name of a taxon, its authorship, and both together."""

    name: str
    authorship: str
    scientific_name: str


@lru_cache(CACHED_NAMES)
def read_name(text: str, rank: str = "") -> ScientificName:
    """Read a name. A known rank helps with capitals: only a species is called "Rana Temporaria"."""
    text = clean(text)
    first = text.split(" ")[0]
    letter = next(filter(str.isalpha, text), "")
    if not letter or not 1 < len(text) <= MAX_CHARS or cannot_begin_name(fold(first).lower().strip("?,:;/()[]<>")):
        return ScientificName(is_doubtful=" " in text)
    if _IDENTIFIER.fullmatch(text):
        return ScientificName()
    if not _LATIN.match(letter):  # a vernacular name in another script
        return ScientificName(canonical="" if names_nothing(text.lower()) else text)
    text = repair(text)
    if several := _SEVERAL.match(text):
        genus = several["genus"] if several["epithet"] and several["same"] else several["first"] or several["only"]
        return _genus(genus or "", is_doubtful=True)
    try:
        parsed = nameparser.parse(text)
    except nameparser.UnparsableNameError as error:
        return _unparsed(text, error.name_type)
    if isinstance(parsed, nameparser.Informal):
        return _genus(parsed.taxon)
    if parsed.uninomial and rank == SPECIES and (lowered := _with_small_epithet(text)):
        return read_name(lowered)
    return _parsed(parsed, text)


def read_parts(genus: str, epithet: str, infraspecific_epithet: str = "") -> ScientificName:
    """Read a name from its parts, in which capitals do not matter. Without genus or epithet it names nothing."""
    genus, epithet = clean(genus), clean(epithet).lower()
    if not genus or not epithet:
        return ScientificName()
    if epithet.startswith(f"{genus.lower()} "):  # the epithet is the whole name
        genus, epithet = epithet.split(" ", 1)
    return read_name(f"{genus.capitalize()} {epithet} {clean(infraspecific_epithet).lower()}")


def canonical_name(scientific_name: str) -> str:
    """Return a name without authorship, ranks, hybrid signs, subgenus and uncertain parts; "" if it is no name.

    "Malaxis monophyllos var. brachypoda (A. Gray) F. Morris" is "Malaxis monophyllos brachypoda", "Rana sp." is "Rana".
    """
    return read_name(scientific_name).canonical


def split_name(name: str, scientific_name: str) -> Name:
    """Split a scientific name into the given canonical name and its authorship.

    "Salix × fragilis L." with the name "Salix fragilis" has the authorship "L.". The scientific name of another taxon,
    such as a synonym, is not used.
    """
    name, scientific_name = clean(name), clean(scientific_name)
    if not name or not scientific_name or name == scientific_name:
        return Name(name or scientific_name, "", scientific_name or name)
    own = read_name(scientific_name)
    is_same = own.canonical == read_name(name).canonical and (own.species != "" or " " not in name)
    return Name(name, own.authorship, scientific_name) if own.authorship and is_same else Name(name, "", name)


def _unparsed(text: str, name_type: str) -> ScientificName:
    """Read a text that is no name to the parser: a placeholder, a code, a virus or a hybrid of several species."""
    if name_type == "PLACEHOLDER":
        return _genus(text if " " in text else "", is_doubtful=True)
    if name_type != "FORMULA":
        return ScientificName(canonical=text)
    parents = [read_name(parent) for parent in _parents(text)]
    genera = {parent.genus for parent in parents}
    genus = genera.pop() if len(genera) == 1 else ""
    if all(parent.species for parent in parents):
        return ScientificName(" × ".join(parent.canonical for parent in parents), genus=genus, is_doubtful=True)
    return ScientificName(_CROSS.sub(" × ", text), genus=genus, is_doubtful=True)


def _parents(text: str) -> list[str]:
    """Return the parents of a hybrid, each with its genus: "Rana alba x R. nigra" and "Rana alba x nigra" omit one."""
    first, *others = _CROSS.split(text.strip("()"))
    genus = first.split(" ")[0]
    full = [other if re.match(r"[^\W\d]{3,} ", other) else f"{genus} {other.split('. ')[-1]}" for other in others]
    return [first, *full]


def _with_small_epithet(text: str) -> str:
    """Return "Rana Temporaria L." with a small epithet, "" when the second word must be the author of a genus."""
    found = _CAPITAL_SECOND.match(text)
    return f"{found[1]}{found[2].lower()}{text[found.end(2) :]}" if found else ""


def _genus(text: str, *, is_doubtful: bool = False) -> ScientificName:
    """Read the first word of a text. It is `canonical`, and the genus unless it looks like a family or order."""
    word = fold(text.split(" ")[0]).capitalize()
    if not _GENUS.fullmatch(word) or cannot_begin_name(word.lower()):
        word = ""
    return ScientificName(word, genus="" if _ABOVE_GENUS.search(word) else word, is_doubtful=is_doubtful)


def _parsed(parsed: nameparser.ParsedName, text: str) -> ScientificName:
    """Take the certain parts of a name that the parser has read."""
    genus = parsed.genus or parsed.uninomial or ""
    doubted_parts = parsed.epithet_qualifier or {}  # such as {"SPECIFIC": "cf."}
    if "GENERIC" in doubted_parts or genus.endswith("."):
        return ScientificName(is_doubtful=True)
    known = _genus(genus)
    authorship = parsed.authorship_complete() or ""
    if authorship.islower():  # a remark: "Rana temporaria - common frog"
        authorship = ""
    if parsed.uninomial:
        return replace(known, authorship=authorship if known.canonical else "")
    is_doubted = "SPECIFIC" in doubted_parts or _DOUBTED.match(text) or any(map(means_doubt, _WORD.findall(fold(text))))
    if is_doubted or _is_abbreviated(parsed.specific_epithet, text):
        return replace(known, is_doubtful=True)
    epithet = _epithet(parsed.specific_epithet)
    if not known.canonical or not epithet:
        return known
    species = f"{known.canonical} {epithet}"
    if STOP_WORD in parsed.warnings:  # which may be either epithet
        return read_name(species) if parsed.infraspecific_epithet else known
    lower = _epithet(parsed.infraspecific_epithet)
    # "Nerium odorum soland." has an author there, and "Motacilla flava flava/thunbergi" names two subspecies.
    is_certain = not _behind(parsed.infraspecific_epithet, text).startswith((".", "/"))
    if lower and is_certain and "INFRASPECIFIC" not in doubted_parts:
        return ScientificName(f"{species} {lower}", species, known.genus, authorship, parsed.rank)
    return ScientificName(species, species, known.genus, "" if doubted_parts else authorship, SPECIES)


def _is_abbreviated(epithet: str | None, text: str) -> bool:
    return len(epithet or "") > 1 and _ABBREVIATED.match(_behind(epithet, text)) is not None


def _behind(epithet: str | None, text: str) -> str:
    return text.rpartition(f" {epithet}")[2] if epithet else ""


def _epithet(text: str | None) -> str:
    word = _DIGITS.sub(r"\1-", fold(text or "").lower())
    return word if _EPITHET.fullmatch(word) and not cannot_be_epithet(word) else ""
