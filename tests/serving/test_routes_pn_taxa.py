"""serving.routes_pn_taxa: the flora, its species, its languages."""

import httpx
import pytest

SPECIES = ["/v2/species", "/v2/projects/all/species", "/v2/projects/dl.colour/species"]


@pytest.mark.parametrize("path", SPECIES)
def test_species_come_all_at_once_or_in_pages(service: httpx.Client, path: str) -> None:
    def names(**params: str) -> list[str]:
        return [row["scientificNameWithoutAuthor"] for row in service.get(path, params=params).json()]

    everything = ["Caeruleus tertius", "Ruber primus", "Viridis secundus"]
    assert names() == names(pageSize="500", page="1") == names(pageSize="2") == names(page="2") == everything
    assert [names(pageSize="2", page=page) for page in ("1", "2", "3")] == [everything[:2], everything[2:], []]
    assert names(prefix="vir") == ["Viridis secundus"]
    assert service.get(path, params={"lang": "fr", "prefix": "Ruber"}).json()[0]["commonNames"] == ["le rouge"]
    for wrong in ({"page": "0", "pageSize": "1"}, {"page": "1", "pageSize": "x"}, {"prefix": "a" * 201}):
        answer = service.get(path, params=wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "Bad Request")


def test_a_name_is_aligned(service: httpx.Client) -> None:
    path = "/v2/projects/all/species/align"
    found = service.get(
        path, params={"name": "Ruber primus Linnaeus", "authorship": "false", "synonyms": "true"}
    ).json()
    assert (found["acceptedName"], found["gbif"]) == ("Ruber primus", {"id": "11"})
    assert service.get(path, params={"name": "Ruber primu", "fuzzy": "TRUE"}).json()["matchType"] == "close"
    answer = service.get(path, params={"name": "Ruber primu"})
    assert (answer.status_code, answer.json()["message"]) == (404, "Species not found")
    assert service.get(path).status_code == service.get(path, params={"name": ""}).status_code == 400


@pytest.mark.parametrize("path", ["/v2/projects/useful/species", "/v2/projects/useful/species/align?name=Ruber"])
def test_another_flora_is_not_found(service: httpx.Client, path: str) -> None:
    answer = service.get(path)
    assert (answer.status_code, answer.json()["statusCode"], answer.json()["error"]) == (404, 404, "Not Found")


def test_the_engine_is_the_only_flora(service: httpx.Client) -> None:
    (found,) = service.get("/v2/projects", params={"lat": "1", "lon": "2", "type": "kt", "lang": "fr"}).json()
    assert (found["id"], found["speciesCount"]) == ("dl.colour", 3)
    assert service.get("/v2/projects", params={"lat": "100", "lon": "2"}).status_code == 400


def test_languages_are_those_of_the_engine(service: httpx.Client) -> None:
    assert service.get("/v2/languages").json() == ["en", "fr"]
