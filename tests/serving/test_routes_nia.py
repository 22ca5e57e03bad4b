"""serving.routes_nia: identification as iRecord and Artsorakel ask Naturalis for it."""

import httpx
import pytest

from tests.engines import COLOURS, photo

RED = photo(COLOURS["11"])
PATHS = ["/v2/observation/identify", "/v2/observation/identify/", "/v2/observation/identify/token/abc"]


@pytest.mark.parametrize("path", PATHS)
def test_an_upload_is_identified(service: httpx.Client, path: str) -> None:
    files = [("image", ("1700000000000.png", RED, "image/png"))]
    data = {"location_coordinates": "52.16, 4.47", "autozoom_enabled": "1", "latitude": "1", "date": "2026-05-01"}
    answer = service.post(path, files=files, data=data, auth=("user", "password"))
    assert answer.status_code == 200
    found = answer.json()
    first = found["predictions"][0]["taxa"]["items"][0]
    assert (first["scientific_name"], first["scientific_name_id"]) == ("Ruber primus", "GBIF:11")
    assert found["identification"]["image"]["confidence"] == "confident"
    assert found["observation"] == {"lat": 52.16, "lon": 4.47, "date": "2026-05-01"}
    assert found["generated_by"]["parameters"] == data
    assert found["media"][0]["filename"] == "1700000000000.png"


@pytest.mark.parametrize("place", ["52", "a,b", "91,0", "1,2,3", "52,"])
def test_a_wrong_place_is_refused(service: httpx.Client, place: str) -> None:
    answer = service.post(PATHS[0], files={"image": RED}, data={"location_coordinates": place})
    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)


def test_documentation_describes_the_engine(service: httpx.Client) -> None:
    found = service.get("/v2/observation/documentation").json()
    assert found["model_implementation"] == {"class_count": 3, "version": "colours-1"}
