"""serving.routes_c4c: the routes that the web component asks, and the gateway route of Pl@ntNet."""

from typing import Any

import httpx
import pytest

from aitax_ray.serving.c4c import C4cRefused
from tests.engines import COLOURS, photo
from tests.serving.service import RED_URL, LocalBackend

RED = photo(COLOURS["11"])
GATEWAY = "/v2/ai-taxonomist/{}/identify"


def post(service: httpx.Client, path: str = "/identify", **options: Any) -> Any:
    return service.post(path, files=[("image", ("1.png", RED))], **options)


def test_common_names_are_in_the_language_of_the_browser_where_the_engine_has_them(service: httpx.Client) -> None:
    def name(**params: str) -> str:
        return str(post(service, params=params).json()["results"][0]["vernacularName"])

    assert (name(lang="fr"), name(lang="xx"), name()) == ("le rouge", "the ruber one", "the ruber one")
    names = [row["vernacularName"] for row in service.get("/taxa", params={"lang": "fr"}).json()]
    assert names == ["le rouge", "the viridis one", "the caeruleus one"]


def test_detailed_adds_genera_and_families(service: httpx.Client) -> None:
    found = post(service, params={"detailed": "true"}).json()
    assert found["genera"][0]["name"] == "Ruber"
    assert found["families"] == [{"name": "Coloridae", "score": 1.0}]
    assert (post(service).json()["genera"], post(service).json()["families"]) == ([], [])


def test_where_and_when_are_repeated_or_refused(service: httpx.Client) -> None:
    found = post(service, params={"lat": "47.5", "lon": "-3"}, data={"date": "2026-05-01"}).json()
    assert found["observation"] == {"lat": 47.5, "lon": -3.0, "date": "2026-05-01"}
    assert "observation" not in post(service).json()
    for where, place in (("params", {"lat": "91", "lon": "0"}), ("data", {"lat": "91", "lon": "0"})):
        refused = post(service, **{where: place})
        assert (refused.status_code, refused.json()["code"]) == (400, 400)
        assert "lat" in refused.json()["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("project", ["all", "dl.colour"])
def test_the_gateway_route_answers_as_identify_does(service: httpx.Client, method: str, project: str) -> None:
    address = {"image": RED_URL, "api-key": "k", "detailed": "1"}
    if method == "GET":
        ours, gateway = (service.get(path, params=address) for path in ("/identify", GATEWAY.format(project)))
    else:
        ours, gateway = (
            post(service, path, params={"detailed": "1"}) for path in ("/identify", GATEWAY.format(project))
        )
    assert gateway.status_code == 200
    assert gateway.json() == ours.json()
    assert gateway.json()["results"][0]["name"] == "Ruber primus"


def test_errors_of_the_gateway_route_are_those_of_its_format(service: httpx.Client) -> None:
    for answer in (
        post(service, GATEWAY.format("anura")),
        service.get(GATEWAY.format("anura"), params={"image": RED_URL}),
    ):
        assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (404, "error", 404)
        assert "dl.colour" in answer.json()["message"]


def test_status_has_the_doi_without_scheme_and_how_good_the_engine_is(service: httpx.Client) -> None:
    assert service.get("/status").json() == {
        "status": "ok",
        "gbif_doi": "10.15468/dl.colour",
        "queries": 7,
        "engine": "colours-1",
        "arch": "colours",
        "species": 3,
        "metrics": {"top1": 1.0},
        "calibration": {
            "fusion": "mean_of_probabilities",
            "temperatures": [1.0, 1.0, 1.0],
            "neighborShare": 0.0,
            "rejection": "max_probability",
            "precision": 0.95,
            "promise": 0.9,
        },
        "keeps_photographs": False,
    }


def test_status_names_an_engine_that_cannot_be_used(
    service: httpx.Client, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "refused", C4cRefused(engine="colours-2", reason="taxa.parquet is missing"))
    assert service.get("/status").json()["refused"] == {"engine": "colours-2", "reason": "taxa.parquet is missing"}


def test_taxa_are_a_bare_list(service: httpx.Client) -> None:
    assert [row["species_id"] for row in service.get("/taxa").json()] == ["11", "22", "33"]


def test_status_and_taxa_answer_below_the_addresses_that_clients_have_for_identification(service: httpx.Client) -> None:
    for path, prefixes in (("/status", ("ai-taxonomist",)), ("/taxa", ("ai-taxonomist", "identify"))):
        for prefix in prefixes:
            for project in ("all", "dl.colour"):
                assert service.get(f"/v2/{prefix}/{project}{path}").json() == service.get(path).json()
            assert service.get(f"/v2/{prefix}/other{path}").status_code == 404
