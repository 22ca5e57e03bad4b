import unicodedata
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif import matching
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.matching import forget_matches, match_names, read_keys, read_lines, read_species_key
from aitax_ray.storage import Storage
from tests.fake_gbif import COL, Answer, Gbif, as_json, plain
from tests.gbif_server import Server

SPECIES = {"key": "11", "name": "Rana alba L.", "canonicalName": "Rana alba", "rank": "SPECIES"}
SUBSPECIES = SPECIES | {"key": "111", "canonicalName": "Rana alba minor", "rank": "SUBSPECIES"}
MATCH = "/v2/species/match"


@pytest.fixture
def frogs(gbif: Gbif) -> Gbif:
    gbif.taxon("11", "Rana alba")
    gbif.taxon("12", "Rana nigra")
    gbif.taxon("13", "Rana albicans", accepted=SPECIES)
    gbif.taxon("14", "Rana minor", accepted=SUBSPECIES, species=("11", "Rana alba"))
    return gbif


def test_exact_names_of_species_give_their_keys(server: Server, frogs: Gbif, client: Client) -> None:
    found = match_names(client, server.url, ["Rana nigra", "Rana alba"], "")
    assert found.keys == {"Rana nigra": "12", "Rana alba": "11"}
    assert found.unmatched == []
    [asked] = server.requests
    assert (asked.method, asked.path) == ("POST", MATCH)
    assert asked.json == [
        {"scientificName": "Rana nigra", "taxonRank": "SPECIES"},
        {"scientificName": "Rana alba", "taxonRank": "SPECIES"},
    ]


def test_higher_taxa_are_found_by_the_name(server: Server, gbif: Gbif, client: Client) -> None:
    gbif.taxon("11", "Rana alba")
    found = matching.match_lineages(client, server.url, ["Rana alba", "Rana incognita"])
    assert found.keys() == {"Rana alba"}
    assert found["Rana alba"].items() >= {"genus": "Rana", "kingdom": "Animalia"}.items()


def test_a_synonym_gives_the_accepted_species(server: Server, frogs: Gbif, client: Client) -> None:
    assert match_names(client, server.url, ["Rana albicans"], "").keys == {"Rana albicans": "11"}


def test_a_synonym_of_a_subspecies_gives_its_species(server: Server, frogs: Gbif, client: Client) -> None:
    assert match_names(client, server.url, ["Rana minor"], "").keys == {"Rana minor": "11"}


@pytest.mark.parametrize(
    ("rank", "match"),
    [
        ("SPECIES", "FUZZY"),
        ("SPECIES", "VARIANT"),
        ("GENUS", "HIGHERRANK"),
        ("GENUS", "EXACT"),
        ("SUBSPECIES", "EXACT"),
    ],
)
def test_all_other_matches_come_with_gbifs_answer(
    server: Server, frogs: Gbif, client: Client, rank: str, match: str
) -> None:
    frogs.taxon("9", "Rana albaa", rank=rank, match=match)
    found = match_names(client, server.url, ["Rana albaa", "Rana alba", "Nobody knows"], "")
    assert found.keys == {"Rana alba": "11"}
    assert [entry["name"] for entry in found.unmatched] == ["Rana albaa", "Nobody knows"]
    assert found.unmatched[0]["answer"] == frogs.names["rana albaa"]
    assert found.unmatched[1]["answer"]["diagnostics"]["matchType"] == "NONE"


def test_names_go_in_batches_and_answers_keep_their_order(
    server: Server, frogs: Gbif, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "BATCH", 2)
    names = ["Rana nigra", "x", "Rana alba", "y", "Rana minor"]
    found = match_names(client, server.url, names, "")
    assert [len(asked.json) for asked in server.requests] == [2, 2, 1]
    assert found.keys == {"Rana nigra": "12", "Rana alba": "11", "Rana minor": "11"}
    assert [entry["name"] for entry in found.unmatched] == ["x", "y"]


@pytest.mark.parametrize("status", [404, 405, 415, 501])
def test_a_service_that_takes_no_lists_is_asked_name_by_name(
    server: Server, frogs: Gbif, client: Client, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(matching, "BATCH", 2)
    server.routes[MATCH] = lambda asked: Answer(b"", status) if asked.method == "POST" else None
    found = match_names(client, server.url, ["Rana alba", "x & y", "Rana nigra"], COL)
    assert found.keys == {"Rana alba": "11", "Rana nigra": "12"}
    assert [asked.method for asked in server.requests] == ["POST", "GET", "GET", "GET"]
    assert server.requests[2].query == {"scientificName": ["x & y"], "taxonRank": ["SPECIES"], "checklistKey": [COL]}


def test_the_checklist_is_sent_with_lists_too(server: Server, frogs: Gbif, client: Client) -> None:
    match_names(client, server.url, ["Rana alba"], COL)
    assert server.requests[0].query == {"checklistKey": [COL]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (plain("unknown checklist", 400), r"answers 400 \(unknown checklist\) to a list of 1 names"),
        (as_json([]), "does not give an answer for each of 1 names: check --gbif-url"),
        (as_json({"usage": {}}), "does not give an answer for each of 1 names"),
        (as_json(["EXACT"]), "answers 'EXACT' to a name"),
        (as_json([{"diagnostics": ["EXACT"]}]), "with diagnostics .*, not an object"),
        (as_json([{"usage": "11"}]), "with usage '11', not an object"),
    ],
)
def test_answers_of_another_type_are_an_error_in_one_sentence(
    server: Server, client: Client, answer: Answer, message: str
) -> None:
    server.routes[MATCH] = answer
    with pytest.raises(GbifError, match=message):
        match_names(client, server.url, ["Rana alba"], "")


def test_a_name_that_gbif_refuses_is_an_error(server: Server, frogs: Gbif, client: Client) -> None:
    server.routes[MATCH] = lambda asked: Answer(b"", 405) if asked.method == "POST" else plain("no checklist", 400)
    with pytest.raises(GbifError, match=r"400 \(no checklist\) to the name 'Rana alba': check --names and --checklist"):
        match_names(client, server.url, ["Rana alba"], "nonsense")


@pytest.mark.parametrize(
    "answer",
    [
        {"usage": SPECIES, "synonym": True, "diagnostics": {"matchType": "EXACT"}},
        {"usage": SPECIES | {"key": None}, "diagnostics": {"matchType": "EXACT"}},
        {"usage": SPECIES | {"key": "1&x=y"}, "diagnostics": {"matchType": "EXACT"}},
        {"usage": SPECIES, "acceptedUsage": SUBSPECIES, "diagnostics": {"matchType": "EXACT"}},
    ],
)
def test_an_exact_match_without_accepted_species_has_no_key(answer: dict[str, Any]) -> None:
    assert read_species_key(answer) == ""


def test_names_that_look_the_same_in_unicode_are_one_name(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "Isoëtes lacustris") for form in ("NFD", "NFC")]
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")
    assert read_lines(tmp_path / "names.txt", "--names") == ["Isoëtes lacustris"]


def test_keys_may_come_from_a_table_program(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("5352251.0\n5352251\nQ2M4\n12.00\n", "utf-8")
    assert read_keys(tmp_path / "keys.txt", "--species") == ["5352251", "Q2M4", "12"]


def test_a_names_file_may_have_blanks_a_bom_and_repeats(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeff  Rana   alba \r\n\r\n\nRana nigra\nRana alba\n\t\nRåna è\n".encode())
    assert read_lines(path, "--names") == ["Rana alba", "Rana nigra", "Råna è"]


@pytest.mark.parametrize("text", ['["Q2M4", 11, "Q2M4", " 12 "]', "\n Q2M4\n11\n12\n", '\ufeff\n[\n"Q2M4",\n11,12]\n'])
def test_a_species_file_is_a_json_array_or_has_a_line_each(tmp_path: Path, text: str) -> None:
    path = tmp_path / "species"
    path.write_text(text, encoding="utf-8")
    assert read_keys(path, "--species") == ["Q2M4", "11", "12"]


@pytest.mark.parametrize("text", ["", " \n\t\n", "[]", '["", " "]', "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"--names: .*names\.txt is empty; it must have one entry per line"):
        read_lines(path, "--names")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[1.5]", "1.5 in .* is neither a text nor a whole number"),
        (b"[null]", "None in .* is neither"),
        (b"[true]", "True in .* is neither"),
        (b'[{"key": 1}]', "is neither"),
        (b"Rana alba\n", "'Rana alba' in .* is no key of GBIF; for names of species use --names"),
        (b"1&taxonKey=2\n", "is no key of GBIF"),
    ],
)
def test_a_species_file_that_cannot_be_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "species.txt"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=f"--species: .*{message}"):
        read_keys(path, "--species")


@pytest.mark.parametrize("name", ["nothing.txt", "."])
def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"--names: .* cannot be read"):
        read_lines(tmp_path / name, "--names")


def test_names_that_an_earlier_run_had_matched_are_not_asked_for(
    server: Server, gbif: Gbif, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "BATCH", 2)
    gbif.taxon("11", "Rana alba")
    gbif.taxon("12", "Rana nigra")
    storage = Storage(str(tmp_path))
    names = ["Rana alba", "Nobody knows", "Rana nigra", "x", "y"]
    undisturbed = match_names(client, server.url, names, "")
    server.requests.clear()
    server.routes["/v2/species/match"] = [None, Answer(status=400)]
    with pytest.raises(GbifError, match="answers 400"):
        match_names(client, server.url, names, "", storage)
    server.routes.clear()
    server.requests.clear()
    assert match_names(client, server.url, names, "", storage) == undisturbed
    asked = [[entry["scientificName"] for entry in post.json] for post in server.posts()]
    assert asked == [["Rana nigra", "x"], ["y"]]
    server.requests.clear()
    match_names(client, server.url, names, "", storage)
    assert server.requests == []
    match_names(client, server.url, names[:1], COL, storage)  # another checklist has other keys
    assert len(server.requests) == 1
    forget_matches(storage)
    assert storage.files("") == []
