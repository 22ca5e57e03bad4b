"""Scientific names: what a text names, and the key that stands for a taxon where no checklist does.

GBIF's parser reads the names (https://github.com/gbif/name-parser-rust). One name has one key however it is spelled:
without authorship, ranks, hybrid signs, subgenus, capitals and accents.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import nameparser

from aitax_ray.darwin_core.name_text import clean, fold, repair
from aitax_ray.darwin_core.no_names import begins_no_name, is_no_epithet

MAX_CHARS = 500  # a longer text is a description
CACHED_NAMES = 1 << 14  # an archive says the same name in row after row
SPECIES = "SPECIES"
UNCERTAIN = frozenset({"GENERIC", "SPECIFIC"})  # parts that a "cf." or "?" makes doubtful, and the species with them
STOP_WORD = "blacklisted epithet used"  # the parser's warning at "Rana the"
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_EPITHET = re.compile(r"[a-z]{2,}|([a-z\d]+-)+[a-z]{2,}")
_DIGITS = re.compile(r"^(\d+)(?=[a-z])")
_ABOVE_GENUS = re.compile(r"(idae|inae|oidea|aceae|oideae|ales|phyta|mycetes|opsida)$")
# "Rana ?alba", "Rana alba (?)", "Rana alba cf.", "Rana alba hybrid", "Rana alba ×"
_DOUBTED = re.compile(r"(\S+ )?\S*\?|.*(\?\W*| [xX×]| (cf|aff)\.?)$|.*\bh[yí]brid(e?s?|os?)\b")
_AND = r"or|and|vel|oder|und|ou|et|y|eller|och|og|en"
# "Larus argentatus/fuscus", "Rana or Bufo", "Rana alba L.; Rana nigra": no author stands right behind an epithet.
_SEVERAL = re.compile(
    rf"(?P<genus>[^\W\d]+)(?P<epithet> [^\W\dA-Z][^\WA-Z-]*\.?)? ?(?:[/|&]| (?:{_AND}) )(?P<same> ?[a-z])?"
    r"|(?P<first>[^\W\d]+) .*[;,/|&*] ?(?P=first) "
)
_CROSS = re.compile(r" [xX×+] ")


@dataclass(frozen=True)
class ScientificName:
    """What a text names; a part that it does not name for certain is "".

    `canonical` is the name down to its last certain part: "Rana" of "Rana sp.". What is named without being a name of
    that kind, such as "BOLD:AAA1234", a virus or a hybrid of two species, is `canonical` as it is written.
    """

    canonical: str = ""
    species: str = ""
    genus: str = ""
    authorship: str = ""
    rank: str = ""
    is_doubtful: bool = False  # a species is named and put in question, or it is one of several


@dataclass(frozen=True)
class Name:
    """A taxon's name in its three forms."""

    name: str
    authorship: str
    scientific_name: str


@lru_cache(CACHED_NAMES)
def read_name(text: str, rank: str = "") -> ScientificName:
    """Read a name, of a taxon of this rank if that is known. Never raises."""
    text = clean(text)
    first = text.split(" ")[0]
    letter = next(filter(str.isalpha, text), "")
    if not letter or not 1 < len(text) <= MAX_CHARS or begins_no_name(fold(first).lower().strip("?,:;/()[]<>")):
        return ScientificName(is_doubtful=" " in text)
    if not _LATIN.match(letter):
        return ScientificName(canonical=text)  # in another script: a vernacular name
    text = repair(text)
    if several := _SEVERAL.match(text):
        genus = several["genus"] if several["epithet"] and several["same"] else several["first"]
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
    """Read a name that is given in parts, epithets in small letters or not. It needs genus and epithet."""
    genus, epithet = clean(genus), clean(epithet).lower()
    if not genus or not epithet:
        return ScientificName()
    if epithet.startswith(f"{genus.lower()} "):  # the epithet's column holds the whole name
        genus, epithet = epithet.split(" ", 1)
    return read_name(f"{genus.capitalize()} {epithet} {clean(infraspecific_epithet).lower()}")


def canonical_name(scientific_name: str) -> str:
    """Strip a name of authorship, ranks, hybrid signs and subgenus, and of what is not certain; "" if it is no name.

    "Malaxis monophyllos var. brachypoda (A. Gray) F. Morris" is "Malaxis monophyllos brachypoda", "Rana sp." is "Rana".
    """
    return read_name(scientific_name).canonical


def split_name(name: str, scientific_name: str) -> Name:
    """Part a scientific name into canonical name and authorship, given the canonical name.

    "Salix × fragilis L." has the name "Salix fragilis". A scientific name of another taxon (a synonym) is not used.
    """
    name, scientific_name = clean(name), clean(scientific_name)
    if not name or not scientific_name or name == scientific_name:
        return Name(name or scientific_name, "", scientific_name or name)
    own = read_name(scientific_name)
    is_same = own.canonical == read_name(name).canonical and (own.species != "" or " " not in name)
    return Name(name, own.authorship, scientific_name) if own.authorship and is_same else Name(name, "", name)


def _unparsed(text: str, kind: str) -> ScientificName:
    if kind == "PLACEHOLDER":
        return _genus(text if " " in text else "", is_doubtful=True)
    if kind != "FORMULA":
        return ScientificName(canonical=text)
    parents = [read_name(parent) for parent in _parents(text)]
    genera = {parent.genus for parent in parents}
    genus = genera.pop() if len(genera) == 1 else ""
    if all(parent.species for parent in parents):
        return ScientificName(" × ".join(parent.canonical for parent in parents), genus=genus, is_doubtful=True)
    return ScientificName(_CROSS.sub(" × ", text), genus=genus, is_doubtful=True)


def _parents(text: str) -> list[str]:
    """Both parents of a hybrid with their genus: "Rana alba x R. nigra" and "Rana alba x nigra" name Rana twice."""
    first, *others = _CROSS.split(text.strip("()"))
    genus = first.split(" ")[0]
    full = [other if re.match(r"[^\W\d]{3,} ", other) else f"{genus} {other.split('. ')[-1]}" for other in others]
    return [first, *full]


def _with_small_epithet(text: str) -> str:
    """ "Rana Temporaria L." with a small epithet; "" where the second word is the author of a genus."""
    found = re.match(r"(\S+ )([^\W\d]{3,})(?! ?[,&(]| \d)( |$)", text)
    return f"{found[1]}{found[2].lower()}{text[found.end(2) :]}" if found else ""


def _genus(text: str, *, is_doubtful: bool = False) -> ScientificName:
    genus = _first_word(text)
    return ScientificName(genus, genus="" if _ABOVE_GENUS.search(genus) else genus, is_doubtful=is_doubtful)


def _first_word(text: str) -> str:
    word = fold(text.split(" ")[0]).capitalize()
    return word if re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)*", word) and not begins_no_name(word.lower()) else ""


def _parsed(parsed: nameparser.ParsedName, text: str) -> ScientificName:
    genus = parsed.genus or parsed.uninomial or ""
    uncertain = parsed.epithet_qualifier or {}
    if "GENERIC" in uncertain or genus.endswith("."):
        return ScientificName(is_doubtful=True)
    found = _genus(genus)
    authorship = parsed.authorship_complete() or ""
    if authorship.islower():  # a remark: "Rana temporaria - common frog"
        authorship = ""
    if parsed.uninomial:
        return ScientificName(found.canonical, "", found.genus, authorship if found.canonical else "")
    epithet = _epithet(parsed.specific_epithet)
    is_abbreviated = re.search(
        rf" {re.escape(parsed.specific_epithet or '?')}(?<=\w\w)\. ?[a-z]", text
    )  # "Rana prob. alba"
    if "SPECIFIC" in uncertain or _DOUBTED.match(text) or is_abbreviated:
        return ScientificName(found.canonical, "", found.genus, is_doubtful=True)
    if not found.canonical or not epithet:
        return found
    species = f"{found.canonical} {epithet}"
    if STOP_WORD in parsed.warnings:
        return read_name(species) if parsed.infraspecific_epithet else found
    below = _epithet(parsed.infraspecific_epithet)
    # "Nerium odorum soland." has an author, "Motacilla flava flava/thunbergi" two subspecies.
    is_epithet = not re.search(rf" {re.escape(parsed.infraspecific_epithet or '')}[./]", text)
    if below and is_epithet and "INFRASPECIFIC" not in uncertain:
        return ScientificName(f"{species} {below}", species, found.genus, authorship, parsed.rank)
    return ScientificName(species, species, found.genus, "" if uncertain else authorship, SPECIES)


def _epithet(text: str | None) -> str:
    word = _DIGITS.sub(r"\1-", fold(text or "").lower())
    return word if _EPITHET.fullmatch(word) and not is_no_epithet(word) else ""
