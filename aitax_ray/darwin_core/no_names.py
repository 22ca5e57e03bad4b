"""Finds words that publishers write instead of a name: "to be determined", "Rana species", "Rana larva".

GBIF's parser finds many of them in English only. The lists have no Latin words such as "incognita" and "pupa", because
"Rana incognita" is a species and "Pupa" is a genus.
"""

import re

# Words that are neither the first word of a name nor an epithet.
_NO_NAMES = (
    "to be not no non nao nicht kein keine ne none null nil nan na nd tbd tba tbc id sin sem sans ohne senza zonder",
    "niet ikke ej ei tidak belum khong sense por da a per true false yes valid accepted",
    "needs need awaiting pending possibly probably perhaps maybe likely presumably see same various several multiple",
    "many mixed mixture other others another all any some new unsure doubtful questionable and or et ex vel und",
    "sp spp spec species specie especie especies espece especes art arten slekt soort soorten laji",
    "gen genus genera genre genero gattung familia fam family order ordo ssp subsp subspecies var variety cv cultivar",
    "taxon taxa morphospecies morphotype ined indet inc unid nr near cf aff confer prope",
    "animal plant insect bird fish blank empty unlabeled missing dead test example nomen incertae",
)
# Words that may follow a genus or a species and are not epithets.
_NO_EPITHETS = (
    "larva larvae larvas nymph nymphs pupa pupae juvenile juveniles juv adult adults male males female females",
    "egg eggs spawn tadpole tadpoles seedling sapling hybrid hybrids hybride hybrides hibrido hibridos sg sl ss nov",
    "larve larves larven larvas adulte adultes adulto adultos hembra hembras macho machos femelle femelles",
    "morph type form strain isolate clade lineage haplotype clone complex group grp gp gr agg aggr aggregate",
)
_FIRST_WORDS = frozenset(" ".join(_NO_NAMES).split())
_LATER_WORDS = frozenset(" ".join(_NO_EPITHETS).split()) | _FIRST_WORDS
# The beginnings of words that have many endings: indeterminado, indéterminée; unbestimmt, unbestimmte.
_BEGIN = re.compile(
    r"un(identif|ident$|determ|det$|known|specif|named|describ|classif|assign|certain|cultur|bekannt|bestimm|defin)"
    r"|identif|determined|determinad|determiner|bestimmt|indet(erminad|ermine|erminable|erminato)"
    r"|inconnu|desconocid|desconhecid|sconosciut|onbekend|okand|okaend|obestam|obestaem|ukjent|ukendt|ubestem|tuntemat"
    r"|nieznan|nieokresl|nieoznacz|niezident|neznam|neurc|neident|nedeterm|nedoloc|neodred|nepoznat|necunosc"
    r"|onbepaal|ongedeterm|gedeterm|desconegu|descone|maearittaem|epaeselv|maeaeramat|nenustat|nenoteikt|ismeretl"
    r"|meghataroz|azonosit|bilinm|belirsiz|tanimlan|tanims|diketahui|teridentif|ezezagun|othekkt"
    r"|sp\d|species\d|nsp|.*-like$"
)
# In other scripts: "unknown", "not identified", "as above". They may be a part of a word or of a text.
_OTHER_SCRIPTS = re.compile(
    r"неизв|неопр|не опр|не уст|нет данных|невідом|не визнач|неідент|неидент|неясн|непозн|неодр"
    r"|不明|不詳|不详|不确定|不確定|未知|未定|未鉴|未鑑|未同定|同定中|待定|待鉴|待鑑|同上|미동정|미상|불명|미확인"
    r"|αγνωστ|απροσδ|غير|مجهول|לא ידוע|לא מזוהה|अज्ञात|ไม่ทราบ"
)
# Words that put a species in question, in front of its epithet or behind it. "incerta" and "dubia" are epithets.
_DOUBTS = re.compile(
    r"(probabl|possibl|presumabl|proba?vel|provavelment|posibl|possivel|possibile|uncertain|questionabl|doubtful|maybe"
    r"|perhaps|unsicher|unklar|fraglich|zweifelhaft|vermutlich|wahrscheinlich|moeglich|dudos[oa]|duvidos|douteu|incertain"
    r"|dubbi[oa]|osaeker|sannolik|troligen|usikker|muligens|muligvis|waarschijnlijk|mogelijk|onzeker"
    r"|prawdopodobn|niepewn|pravdepodobn|valoszin|bizonytalan|epaevarma|luultav|sospech)\w*|incerto"
    r"|вероятн\w*|возможн\w*|предположительн\w*|сомнительн\w*"
)


def cannot_begin_name(word: str) -> bool:
    """Whether a name cannot begin with this word. `word` has no accents and is in lower case."""
    return word in _FIRST_WORDS or _BEGIN.match(word) is not None or means_doubt(word)


def cannot_be_epithet(word: str) -> bool:
    """Whether this word is not an epithet of a species, subspecies or variety. `word` is as in `cannot_begin_name`."""
    return word in _LATER_WORDS or _BEGIN.match(word) is not None or means_doubt(word)


def means_doubt(word: str) -> bool:
    """Whether this word puts a species in question. `word` is as in `cannot_begin_name`."""
    return _DOUBTS.fullmatch(word) is not None


def names_nothing(text: str) -> bool:
    """Whether a text in another script than Latin says that there is no name. `text` is in lower case."""
    return _OTHER_SCRIPTS.search(text) is not None
