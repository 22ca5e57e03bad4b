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


@pytest.mark.parametrize(
    ("status", "trust"),
    [
        ("", UNKNOWN),
        ("verified", VERIFIED),
        ("Approved on photographic evidence", VERIFIED),
        ("Approved on expert judgement", VERIFIED),
        ("Approved on knowledge rules", UNKNOWN),
        ("Automatic validation", UNKNOWN),
        ("verified by specialist", VERIFIED),
        ("ValidatedByHuman", VERIFIED),
        ("PredictedByMachine", MACHINE),
        ("predicted by machine", MACHINE),
        ("Unverified", UNVERIFIED),
        ("unconfirmed - not reviewed", UNVERIFIED),
        ("Needs ID", UNVERIFIED),
        ("0", UNVERIFIED),
        ("1", UNKNOWN),  # its meaning differs between publishers
        ("Not accepted - incorrect", DISPUTED),
        ("doubtful", DISPUTED),
        ("Accepted - correct", VERIFIED),
        ("features", UNKNOWN),  # what somebody wrote into the wrong column
        ("Godkänd baserat på bild", VERIFIED),
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
        "Machine learning",
        "BirdNET | MegaDetector",
        "flora incognita",
    ],
)
def test_programs_are_known_by_their_names_in_any_version(name: str) -> None:
    assert judge_label("", "", name, "") == MACHINE
    assert judge_label("", "verified", name, "") == VERIFIED  # a person looked at it


@pytest.mark.parametrize(
    "name",
    [
        "Seek, J.",
        "Merlin Sheldrake",
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
        ("I could believe that; they're everywhere. Sorry about the quality.", UNKNOWN),
        ("BOLD:AAF9225", UNKNOWN),
        ("Thanks for the ID! The AI was no help", UNKNOWN),
    ],
)
def test_remarks_tell_of_programs_in_certain_phrases_only(remarks: str, trust: str) -> None:
    assert judge_label("", "", "", remarks) == trust


def test_datasets_of_one_kind_are_known() -> None:
    assert judge_label(PLANTNET, "verified", "J. Smith", "") == MACHINE
    assert judge_label(PLANTNET.upper(), "", "", "") == MACHINE
    assert judge_label(INATURALIST, "", "Leeanne", "") == VERIFIED
    assert judge_label(INATURALIST, "disputed", "", "") == DISPUTED
    assert judge_label(INATURALIST, "", "BirdNET", "") == MACHINE
