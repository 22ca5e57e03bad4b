from unicodedata import normalize

import pytest

from aitax_ray.dataset.label_trust import (
    DISPUTED,
    MACHINE,
    MACHINE_DATASETS,
    TRUSTS,
    UNKNOWN,
    UNVERIFIED,
    VERIFIED,
    VERIFIED_DATASETS,
    judge_label,
)

PLANTNET = next(iter(MACHINE_DATASETS))
INATURALIST = next(iter(VERIFIED_DATASETS))
PLANTNET_OBSERVATIONS = "7a3679ef-5582-4aaa-81f0-8c2545cafc81"


@pytest.mark.parametrize(
    ("status", "trust"),
    [
        ("", UNKNOWN),
        ("verified", VERIFIED),
        ("Approved on photographic evidence", VERIFIED),
        ("Approved on expert judgement", VERIFIED),
        ("Approved on knowledge rules", UNKNOWN),
        ("Automatic validation", UNKNOWN),
        ("Accepted (automatic validation)", UNKNOWN),
        ("Approved by image recognition", UNKNOWN),
        ("Accepted - considered correct", UNKNOWN),
        ("verified by specialist", VERIFIED),
        ("ValidatedByHuman", VERIFIED),
        ("PredictedByMachine", MACHINE),
        ("predicted by machine", MACHINE),
        ("predicted", MACHINE),
        ("Machine identification, checked", UNKNOWN),
        ("Unverified", UNVERIFIED),
        ("unconfirmed - not reviewed", UNVERIFIED),
        ("Needs ID", UNVERIFIED),
        ("0", UNVERIFIED),
        ("Validation requested", UNVERIFIED),
        ("under validation", UNVERIFIED),
        ("Need not be validated", UNVERIFIED),
        ("Ovaliderad", UNVERIFIED),
        ("Non validé", UNVERIFIED),
        ("No verificado", UNVERIFIED),
        ("Not confirmed", UNVERIFIED),
        ("Under review", UNVERIFIED),
        ("unbestätigt", UNVERIFIED),
        ("identificación no verificada", UNVERIFIED),
        ("Expert verified", VERIFIED),
        ("human verified", VERIFIED),
        ("confirmé", VERIFIED),
        ("Confirmed as incorrect", DISPUTED),
        ("verified: false", DISPUTED),
        ("1", UNKNOWN),  # its meaning differs between publishers
        ("Not accepted - incorrect", DISPUTED),
        ("doubtful", DISPUTED),
        ("Not able to validate", DISPUTED),
        ("Douteux", DISPUTED),
        ("Invalide", DISPUTED),
        ("Underkänd", DISPUTED),
        ("Accepted - correct", VERIFIED),
        ("features", UNKNOWN),  # what somebody wrote into the wrong column
        ("Godkänd baserat på bild", VERIFIED),
        (normalize("NFD", "Godkänd baserat på bild"), VERIFIED),
        ("Validerad", VERIFIED),
        ("Validé", VERIFIED),
        ("Certain - très probable", VERIFIED),
        ("Approved based on image, sound or video recording", VERIFIED),
        ("Research Grade", VERIFIED),
        ("certain", UNKNOWN),  # of the identifier's own opinion
        ("invalid word verified", UNKNOWN),
    ],
)
def test_the_status_says_whether_somebody_checked_it(status: str, trust: str) -> None:
    assert judge_label("", status, "", "") == trust
    assert trust in TRUSTS


@pytest.mark.parametrize(
    "name",
    [
        "Pl@ntNet",
        "PlantNet API v2",
        "BirdNET",
        "BirdNET-Analyzer 2.4",
        "iNaturalist Computer Vision Model v2.12",
        "MegaDetector v5",
        "AI",
        "ai model",
        "Seek app",
        "Merlin 2.1",
        "BirdNET_GLOBAL_6K_V2.4_Model",
        "MegaDetector (v5a)",
        "Western Europe species model Version 1",
        "Machine learning",
        "BirdNET | MegaDetector",
        "BirdNET, MegaDetector",
        "flora incognita",
    ],
)
def test_programs_are_known_by_their_names_in_any_version(name: str) -> None:
    assert judge_label("", "", name, "") == MACHINE
    assert judge_label("", "verified", name, "") == VERIFIED  # a person looked at it
    assert judge_label("", "unverified", name, "") == MACHINE
    assert judge_label("", "Approved on knowledge rules", name, "") == MACHINE
    assert judge_label("", "doubtful", name, "") == DISPUTED
    assert judge_label(INATURALIST, "", name, "") == VERIFIED  # a community agreed


@pytest.mark.parametrize(
    "name",
    [
        "Seek, J.",
        "Merlin Sheldrake",
        "Seek",
        "Merlin",
        "Ai",
        "BirdNET, J. Smith",
        "BOLD ID Engine",  # by DNA
        "A. I. Novak",
        "Ai Weiwei",
        "Leeanne",
        "BirdNET | J. Smith",
        "",
        "2",
        "Sonobat Smith",
    ],
)
def test_people_are_no_programs(name: str) -> None:
    assert judge_label("", "", name, "") == UNKNOWN


@pytest.mark.parametrize(
    ("remarks", "trust"),
    [
        ("Identified by AI (Pl@ntNet)", MACHINE),
        ("identification made by computer vision, score 0.93", MACHINE),
        ("Automatic identification", MACHINE),
        ("classified by a machine with a certainty of 0.89", MACHINE),
        ("classified by a human", UNKNOWN),
        ("Identified by Ai Tanaka", UNKNOWN),
        ("Not identified by a machine", UNKNOWN),
        ("I could believe that; they're everywhere. Sorry about the quality.", UNKNOWN),
        ("BOLD:AAF9225", UNKNOWN),
        ("Thanks for the ID! The AI was no help", UNKNOWN),
    ],
)
def test_remarks_tell_of_programs_in_certain_phrases_only(remarks: str, trust: str) -> None:
    assert judge_label("", "", "", remarks) == trust
    assert judge_label(INATURALIST, "", "", remarks) == VERIFIED


def test_datasets_of_one_kind_are_known() -> None:
    assert judge_label(PLANTNET, "verified", "J. Smith", "") == MACHINE
    assert judge_label(PLANTNET.upper(), "", "", "") == MACHINE
    assert judge_label(INATURALIST, "", "Leeanne", "") == VERIFIED
    assert judge_label(INATURALIST, "disputed", "", "") == DISPUTED
    assert judge_label(PLANTNET_OBSERVATIONS, "", "Ann", "") == UNKNOWN
