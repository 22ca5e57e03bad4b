"""Ranks of taxa, in the words in which publishers write them."""

from aitax_ray.darwin_core.name_text import clean, fold

SPECIES, GENUS, FAMILY = "SPECIES", "GENUS", "FAMILY"

# GBIF's name of each rank, and other words for it.
_WORDS = {
    "KINGDOM": "regnum|reino|royaume|règne|reich|regno|rijk|rike|rige|kunta|królestwo",
    "PHYLUM": "division|divisio|filo|embranchement|stamm|divisione|stam|rekke|række|divisão|abteilung",
    "CLASS": "classis|clase|classe|klasse|klass|luokka|gromada",
    "ORDER": "ordo|orden|ordre|ordnung|ordine|orde|ordning|ordem|lahko|rząd|ord",
    "FAMILY": "familia|famille|familie|famiglia|familj|heimo|rodzina|fam",
    "SUBFAMILY": "subfamilia|sous famille|unterfamilie|sottofamiglia|onderfamilie|underfamilie|underfamilj|subfam",
    "TRIBE": "tribus|tribu|tribo|trib",
    "GENUS": "género|genero|genre|gattung|genere|geslacht|slekt|slægt|släkte|suku|rodzaj|gênero|gen|g",
    "SUBGENUS": "subgénero|sous genre|untergattung|sottogenere|ondergeslacht|underslekt|undersläkte|subgen|subg",
    "SECTION": "sectio|sección|sektion|sezione|sectie|secção|sect",
    "SPECIES": "sp|spec|spp|art|spezies|especie|espèce|specie|soort|laji|gatunek|arter|druh|faj|vrsta|вид|種|种"
    "|especies|nothospecies",
    "SPECIES_AGGREGATE": "aggregate|agg|species complex|species group|complex|artengruppe",
    "SUBSPECIES": "ssp|subsp|subspec|sub species|subespecie|sous espèce|unterart|sottospecie|ondersoort|underart"
    "|alalaji|podgatunek|подвид|race|nothosubspecies",
    "INFRASPECIFIC_NAME": "infraspecies|infraspecific|infraspecific taxon|infrasp|infraspecificname",
    "VARIETY": "var|varietas|variedad|variété|varietät|varietà|variëteit|varietet|variedade|muunnos|odmiana",
    "FORM": "forma|f|fo|forme|vorm|muoto",
    "CULTIVAR": "cv|cultivated variety|sorte",
}


def _normal(text: str) -> str:
    return fold(" ".join(clean(text).replace("-", " ").split())).lower().strip(" :;,()[]")


_RANKS = {_normal(word): rank for rank, words in _WORDS.items() for word in (rank.replace("_", " "), *words.split("|"))}


def read_rank(text: str) -> str:
    """GBIF's name of a rank: "espèce" and "sp." are SPECIES. "" where the text is empty or no rank that is known.

    The rank may be the end of a URL, as in GBIF's vocabulary.
    """
    return _RANKS.get(_normal(text.rstrip("/").rpartition("/")[2]), "")
