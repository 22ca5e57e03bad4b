"""How far the label of a photograph can be believed: who identified the occurrence, and whether somebody checked it.

Four terms of Darwin Core tell it: datasetKey, identificationVerificationStatus, identifiedBy and identificationRemarks.
They are free text, so only what stands in the tables here counts, compared without case and punctuation. All else is
UNKNOWN. Sources of the tables: the values that GBIF Alert found in European records of GBIF
(https://github.com/riparias/gbif-alert/issues/43), the terms for data from images
(https://github.com/tdwg/dwc-qa/issues/185), and the pages of the datasets at GBIF.
"""

import re
from functools import cache

MACHINE, DISPUTED, UNVERIFIED, UNKNOWN, VERIFIED = "machine", "disputed", "unverified", "unknown", "verified"
# Every trust with its meaning.
TRUSTS = {
    VERIFIED: "a second person, or a community, agreed",
    UNKNOWN: "the record does not tell whether somebody checked it",
    UNVERIFIED: "a person identified it, and the publisher says that nobody checked it",
    DISPUTED: "somebody doubts it",
    MACHINE: "a program identified it, and nobody checked that",
}

MACHINE_DATASETS = {
    "14d5676a-2c54-4f94-9023-1e8dcd822aa0": "Pl@ntNet automatically identified occurrences",
}
VERIFIED_DATASETS = {
    "50c9509d-22c7-4a22-a47d-8c48425ef4a7": "iNaturalist Research-grade Observations",
}
# Words at the beginning of identificationVerificationStatus. The first that fits counts.
_STATUSES = (
    (
        MACHINE,
        r"predicted ?by ?machine|machine|automatic identification|automatically identified|not validated by human",
    ),
    (
        DISPUTED,
        r"disputed|doubtful|dubious|questionable|incorrect|rejected|unlikely|not accepted|considered incorrect|"
        r"unable to verify|not able to validate|uncertain|requires confirmation",
    ),
    (
        UNVERIFIED,
        r"unverified|not verified|unconfirmed|unvalidated|not validated|not reviewed|needs id|requires verification|"
        r"0$|non validé|nicht geprüft|ungeprüft|no verificado|niet beoordeeld|ej validerad|ovaliderad",
    ),
    # Rules of plausibility, such as the place and the day, say nothing of the photograph.
    (UNKNOWN, r"approved on knowledge rules|automatic validation|semi automatic validation"),
    (
        VERIFIED,
        r"verified|validated|accepted|approved|confirmed|certified|sighting certified|specimen certified|"
        r"research grade|validated ?by ?human|reported by expert|verificado|verificata|validé|geprüft|goedgekeurd|"
        r"godkänd|hyväksytty|provjereno|valid$",
    ),
)
# The whole of identifiedBy, after the version is cut off. People are called Merlin, Seek and Ai: such words alone are
# not here.
# fmt: off
_PROGRAMS = {
    "plntnet", "plantnet", "plntnet api", "plantnet api", "birdnet", "birdnet analyzer", "birdnet pi",
    "inaturalist computer vision", "inaturalist computer vision model", "inaturalist cv", "computer vision",
    "computer vision model", "megadetector", "speciesnet", "artificial intelligence", "machine",
    "machine learning", "machine learning model", "machine vision", "algorithm", "automatic", "automated",
    "automatic identification", "automatic image recognition", "image recognition", "software", "neural network",
    "convolutional neural network", "deep learning", "seek by inaturalist", "merlin sound id", "merlin bird id",
    "batdetect", "kaleidoscope pro", "sonobat", "sonochiro", "tadarida", "flora incognita", "obsidentify",
    "nature identification api", "waarneming nl image recognition", "deepfaune", "wildlife insights", "bioclip",
    "google lens", "chatgpt", "conservation ai", "trapper ai", "insect detect", "ai identification", "ai model",
    "ai",
}
# fmt: on
_REMARK = re.compile(
    r"(identified|identification|classified|classification|predicted|determined) (automatically )?"
    r"(by|with|using|made by|from) (an? |the )?(ai|artificial intelligence|computer vision|machine learning|algorithm|"
    r"neural network|image recognition|plantnet|plntnet|birdnet|inaturalist computer vision|megadetector|speciesnet)\b"
    r"|^(automatic|automated|machine|ai|computer vision) (identification|classification|prediction)\b"
)
_VERSION = re.compile(r"\b(v|version|ver)? ?\d+( \d+)*( (beta|alpha|rc))?$")


@cache
def judge_label(dataset_key: str, status: str, identified_by: str, remarks: str) -> str:
    """Say how far a label can be believed: one of TRUSTS.

    A dataset of identifications by a program counts before all else, then what the status says. Several identifiers
    are programs only if all of them are.
    """
    if dataset_key.lower() in MACHINE_DATASETS:
        return MACHINE
    words = _plain(status)
    named = next((trust for trust, pattern in _STATUSES if re.match(f"({pattern})\\b", words)), "") if words else ""
    if named and named != UNKNOWN:
        return named
    identifiers = [_plain(name) for name in re.split(r"[|;]", identified_by) if name.strip()]
    if identifiers and all(_VERSION.sub("", name).strip() in _PROGRAMS for name in identifiers):
        return MACHINE
    if _REMARK.search(_plain(remarks)):
        return MACHINE
    return VERIFIED if dataset_key.lower() in VERIFIED_DATASETS else UNKNOWN


def _plain(text: str) -> str:
    """Small letters and digits, with single blanks between words."""
    return " ".join(re.sub(r"[^\w ]+|_", " ", text.lower().replace("@", "")).split())
