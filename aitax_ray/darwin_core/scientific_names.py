"""Scientific names: the canonical name, the authorship, and the key that stands for a taxon where no checklist does."""

import re
from dataclasses import dataclass

RANK_MARKS = frozenset({"subsp.", "ssp.", "var.", "subvar.", "f.", "fo.", "forma", "cv.", "nothosubsp.", "nothovar."})
HYBRID = "×"
HYBRIDS = frozenset({HYBRID, "x"})  # the sign, and the letter that keyboards have
FORMULA = re.compile(r"[^\s×]\S* (\([^)]*\) )?[a-zà-öø-ÿ-]{2,}( .*)? [×x] \S")  # both parents of a hybrid
EPITHET = re.compile(r"×?[a-zà-öø-ÿ][a-zà-öø-ÿ-]+")
# Small words that are no epithets: of open nomenclature, and those that authors' names begin with.
UNSURE = frozenset({"sp", "spp", "cf", "aff", "nr", "indet", "gen", "ssp", "subsp", "var"})
AUTHORS = frozenset(
    {
        "auct",
        "da",
        "de",
        "del",
        "den",
        "der",
        "di",
        "do",
        "dos",
        "du",
        "et",
        "ex",
        "in",
        "la",
        "le",
        "non",
        "nom",
        "and",
        "ten",
        "ter",
        "van",
        "von",
        "zu",
    }
)


@dataclass(frozen=True)
class Name:
    """A taxon's name in its three forms."""

    name: str
    authorship: str
    scientific_name: str


def split_name(name: str, scientific_name: str) -> Name:
    """Part a scientific name into canonical name and authorship, given the canonical name.

    Hybrid signs and a subgenus in brackets do not count: "Salix × fragilis L." has the name "Salix fragilis". A
    scientific name of another taxon (a synonym) is not used.
    """
    name, scientific_name = " ".join(name.split()), " ".join(scientific_name.split())
    if not name or not scientific_name:
        return Name(name or scientific_name, "", scientific_name or name)
    words, rest = scientific_name.split(), name.split()
    while words and rest:
        word = words.pop(0)
        if word.lstrip(HYBRID) == rest[0]:
            rest.pop(0)
        elif word not in HYBRIDS | RANK_MARKS and not (word.startswith("(") and word.endswith(")")):
            return Name(name, "", name)
    if rest or (words and words[0].rstrip(".,") in UNSURE):
        return Name(name, "", name)
    return Name(name, " ".join(words), scientific_name)


def canonical_name(scientific_name: str) -> str:
    """The name without authorship, ranks, hybrid signs and subgenus: "Malaxis monophyllos var. brachypoda (A. Gray) F.
    Morris" is "Malaxis monophyllos brachypoda". One word remains of what names no species ("Malaxis sp."); a name that
    is none, such as "BOLD:AAA1234", and the formula of a hybrid ("Rana alba × Rana nigra") stay as they are.
    """
    words = scientific_name.split()
    if _is_formula(scientific_name):
        return " ".join(words)
    words = [word for word in words if word not in HYBRIDS]
    if not words:
        return ""
    found = [words[0].lstrip(HYBRID)]
    for word in words[1:]:
        if word in RANK_MARKS or (len(found) == 1 and word.startswith("(") and word.endswith(")")):
            continue
        if word.rstrip(".,") in UNSURE | AUTHORS or not EPITHET.fullmatch(word) or len(found) == 3:
            break
        found.append(word.lstrip(HYBRID))
    return " ".join(found)


def binomial(genus: str, epithet: str, scientific_name: str) -> str:
    """The name of the species, "" where there is none: from genus and epithet, else from the scientific name."""
    if _is_formula(scientific_name):
        return ""
    if genus.strip() and EPITHET.fullmatch(epithet.strip()) and epithet.strip().rstrip(".") not in UNSURE:
        return f"{genus.strip().lstrip(HYBRID)} {epithet.strip().lstrip(HYBRID)}"
    words = canonical_name(scientific_name).split()
    return " ".join(words[:2]) if len(words) > 1 else ""


def _is_formula(scientific_name: str) -> bool:
    return FORMULA.match(" ".join(scientific_name.split())) is not None
