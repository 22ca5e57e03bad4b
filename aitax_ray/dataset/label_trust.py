"""How far the label of a photograph can be believed: who identified the occurrence, and whether somebody checked it.

Four terms of Darwin Core say so: datasetKey, identificationVerificationStatus, identifiedBy, identificationRemarks.
They are free text in many languages, so only what stands in the tables here counts. It is compared without case,
accents and punctuation. All else is UNKNOWN. Sources of the tables: the statuses that GBIF Alert found in European
records of GBIF (https://github.com/riparias/gbif-alert/issues/43), those of Artportalen, GeoNature, observation.org
(https://observation.org/pages/validation) and the NBN Atlas (https://docs.nbnatlas.org/verification-status-terms),
the terms for data from images (https://github.com/tdwg/dwc-qa/issues/185), the guide of Camtrap DP
(https://github.com/inbo/camtraptor/issues/264), and the pages of the datasets at GBIF.
"""

import re
from unicodedata import combining, normalize

MACHINE, DISPUTED, UNVERIFIED, UNKNOWN, VERIFIED = "machine", "disputed", "unverified", "unknown", "verified"
# Every trust with its meaning.
TRUSTS = {
    VERIFIED: "a second person, or a community, agreed",
    UNKNOWN: "the record does not say whether a person checked it",
    UNVERIFIED: "a person identified it, and the publisher says that nobody checked it",
    DISPUTED: "somebody doubts it, or tried to check it and could not",
    MACHINE: "a program identified it, and nobody checked that",
}
DOUBTFUL = (MACHINE, DISPUTED)

MACHINE_DATASETS = {
    "14d5676a-2c54-4f94-9023-1e8dcd822aa0": "Pl@ntNet automatically identified occurrences",
}
# Not "Pl@ntNet observations" (7a3679ef-5582-4aaa-81f0-8c2545cafc81): there the score of the program and the votes of
# people decide together.
VERIFIED_DATASETS = {
    "50c9509d-22c7-4a22-a47d-8c48425ef4a7": "iNaturalist Research-grade Observations",
}
# How identificationVerificationStatus begins. The first pattern that fits counts.
_STATUSES = (
    (
        MACHINE,
        r"predicted$|predicted ?by ?(a )?machine|(machine|ai)( identification| identified| prediction| predicted)?$|"
        r"(automatic|automatically|automated) (identification|identified|classification|classified|prediction)$|"
        r"not validated by human",
    ),
    (
        DISPUTED,
        r"(verified|validated|confirmed|approved|accepted)( as)? (false|incorrect|wrong|no|invalid)|"
        r"disputed|doubtful|dubious|questionable|incorrect|invalide?$|rejected|unlikely|not accepted|"
        r"considered incorrect|unable to verify|not able to validate|control could not be conclusive|uncertain|"
        r"requires confirmation|douteux|non realisable|underkand|ej mojlig att validera|avvist|afgekeurd|abgelehnt|"
        r"zweifelhaft|dudos[oa]|rechazad[oa]",
    ),
    (
        UNVERIFIED,
        r"unverified|unverifiable|not (verified|confirmed|checked)|under review|nicht bestatigt|unbestatigt|"
        r"identificacion no verificada|non confirme|unconfirmed|unvalidated|not validated|not reviewed|"
        r"under validation|needs id|casual$|requires verification|0$|"
        r"(validation|verification) (requested|required|needed)|"
        r"documentation requested|description required|dialogue (at|with) (reporter|validator)|"
        r"need not be validated|non (valide|evalue|verificat[oa])|en attente de validation|nicht gepruft|ungepruft|"
        r"n(o|ao) (verificad|validad)[oa]|niet (beoordeeld|gevalideerd)|ovaliderad|ej validerad|"
        r"validering efterfragas|behover inte valideras|ikke validert",
    ),
    # A program checked it, or somebody who did not look at the photograph: by the place, the day and the observer.
    (
        UNKNOWN,
        r"accepted considered correct|.*\b(automat\w*|knowledge rules|image recognition|computer vision|machine|"
        r"algorithm|ai)",
    ),
    (
        VERIFIED,
        r"(human|expert|person) (verified|validated)|verified|validated ?(by ?human)?|confirme|bestatigt|"
        r"identificacion verificada|accepted|approved|confirmed|certified|(sighting|specimen) certified|"
        r"research grade|reported by expert|certain tres probable|valide?( par.*)?$|verifica[dt][oa]|validad[oa]|"
        r"gepruft|verifiziert|goedgekeurd|gevalideerd|godkand|validerad|godkjent|validert|hyvaksytty|provjereno",
    ),
)
# The whole of a name in identifiedBy, without what _TAIL cuts off. The engine of BOLD is not here: it reads DNA, not
# photographs.
# fmt: off
_PROGRAMS = {
    "plantnet", "birdnet", "inaturalist computer vision", "inaturalist cv", "computer vision", "megadetector",
    "speciesnet", "artificial intelligence", "machine", "machine learning", "machine vision", "algorithm", "automatic",
    "automated", "automatic identification", "automatic image recognition", "image recognition", "software",
    "neural network", "convolutional neural network", "deep learning", "seek by inaturalist", "merlin sound id",
    "merlin bird id", "batdetect", "batdetect2", "kaleidoscope pro", "sonobat", "sonochiro", "tadarida",
    "flora incognita", "obsidentify", "nature identification", "waarneming nl image recognition", "deepfaune",
    "wildlife insights", "western europe species", "bioclip", "google lens", "chatgpt", "conservation ai", "trapper ai",
    "insect detect", "ai identification",
}
# fmt: on
# People have these names too, so they count only with a version or the like, and AI in capitals.
_ALSO_PEOPLE = {"ai", "seek", "merlin"}
_TAIL = re.compile(r"( (model|api|app|analyzer|classifier|global|pi|v|ver|version|v?\d+[a-z]?|beta|alpha|rc))+$")
_REMARK = re.compile(
    r"(?<!\bnot )\b(identified|identification|classified|classification|predicted|determined) (automatically )?"
    r"(by|with|using|made by|from) (an? |the )?(machine|ai|artificial intelligence|computer vision|algorithm|"
    r"neural network|image recognition|plantnet|birdnet|inaturalist computer vision|megadetector|speciesnet)\b"
    r"|^(automatic|automated|machine|ai|computer vision) (identification|classification|prediction)\b"
)


def judge_label(dataset_key: str, status: str, identified_by: str, remarks: str) -> str:
    """Say how far a label can be believed: one of TRUSTS.

    The first of these that says something counts: a dataset of a program's identifications; a status of a program's
    label, a doubt or a check, or else a dataset of checked records; a program in identifiedBy or the remarks; a status
    of a label that nobody checked. Several identifiers are programs only if all of them are.
    """
    if dataset_key.lower() in MACHINE_DATASETS:
        return MACHINE
    words = _plain(status)
    stated = next((trust for trust, pattern in _STATUSES if re.match(f"({pattern})\\b", words)), "") if words else ""
    stated = stated or (VERIFIED if dataset_key.lower() in VERIFIED_DATASETS else UNKNOWN)
    if stated not in (UNVERIFIED, UNKNOWN):
        return stated
    separated = [[name for name in re.split(marks, identified_by) if name.strip()] for marks in ("[|;]", "[|;,]")]
    if any(names and all(map(_is_program, names)) for names in separated) or _names_program(remarks):
        return MACHINE
    return stated


def _names_program(remarks: str) -> bool:
    found = _REMARK.search(_plain(remarks))
    # Ai is also the name of people.
    return found is not None and ("ai" not in found[0].split() or re.search(r"\bAI\b", remarks) is not None)


def _is_program(name: str) -> bool:
    plain = _plain(name)
    cut = _TAIL.sub("", plain)
    return cut in _PROGRAMS or (cut in _ALSO_PEOPLE and cut != plain) or name.strip() == "AI"


def _plain(text: str) -> str:
    """Small letters without accents, and digits, with single blanks between words. @ is an a, as in Pl@ntNet."""
    letters = "".join(letter for letter in normalize("NFKD", text.casefold()) if not combining(letter))
    return " ".join(re.sub(r"[^\w ]+|_", " ", letters.replace("@", "a")).split())
