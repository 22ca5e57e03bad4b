"""serving.http: the routes, over a backend in this process."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from aitax_ray.engine.info import FORMAT_VERSION
from aitax_ray.errors import ClusterError
from aitax_ray.schemas import image_id
from aitax_ray.serving import examples
from aitax_ray.serving.decoding import MAX_BYTES, PhotoDecoder
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identification
from tests.engines import COLOURS, photo, thumbnail, write_small_engine
from tests.serving.service import LocalBackend, serve
from tests.serving.test_decoding import write_fragile_decoder

RED, BLUE = photo(COLOURS["11"]), photo(COLOURS["33"])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("engine")
    backend = LocalBackend(write_small_engine(folder / "colours-1"))
    with pytest.MonkeyPatch.context() as patch:
        write_fragile_decoder(folder, patch)
        yield from serve(backend)


def post(client: httpx.Client, *bodies: bytes, path: str = "/identify", **options: Any) -> Any:
    return client.post(path, files=[("image", (f"{n}.png", body)) for n, body in enumerate(bodies)], **options)


def test_posted_photograph_is_named(client: httpx.Client) -> None:
    answer = post(client, RED, data={"info": "true"}, params={"lang": "fr", "api-key": "k"})
    assert answer.status_code == 200
    first = answer.json()["results"][0]
    assert (first["name"], first["gbif_id"], first["family"]) == ("Ruber primus", "11", "Coloridae")
    assert first["images"][0]["rightsHolder"] == "author 0"
    scores = [result["score"] for result in answer.json()["results"]]
    assert scores == sorted(scores, reverse=True)


def test_two_photographs_give_one_answer(client: httpx.Client) -> None:
    results = post(client, RED, BLUE).json()["results"]
    assert {result["gbif_id"] for result in results[:2]} == {"11", "33"}
    assert results[0]["score"] == pytest.approx(results[1]["score"], abs=0.01)


def test_photograph_is_named_by_its_url(client: httpx.Client) -> None:
    answer = client.get("/identify", params={"image": "https://photos.example/red.jpg"})
    assert answer.json()["results"][0]["name"] == "Ruber primus"


def test_address_that_ends_in_a_slash_works(client: httpx.Client) -> None:
    assert post(client, RED, path=f"{client.base_url}//identify").status_code == 200


@pytest.mark.parametrize("prefix", ["", "/frogs"])
def test_every_address_works_below_a_prefix(backend: LocalBackend, prefix: str) -> None:
    with TestClient(make_app(lambda: backend, allowed_hosts=("engine.example",)), root_path=prefix) as client:
        client.headers["host"] = "engine.example"

        def get(path: str, **options: Any) -> httpx.Response:
            return client.get(prefix + path, follow_redirects=False, **options)

        for path in ("/", "/species", "/page/page.css", "/docs", "/status", "//status", "/status/", "/readyz"):
            assert get(path).status_code == 200, path
        assert get("/readyz", headers={"host": "10.0.0.1"}).status_code == 200  # of a load balancer
        assert get("/status", headers={"host": "10.0.0.1"}).status_code == 400
        assert f"url: '{prefix}/openapi.json'" in get("/docs").text
        assert not re.findall(r"""(?:href|src|action)=["'](?!\./|https:|#)""", get("/").text)
        answer = client.post(f"{prefix}/identify", files={"image": RED}).json()
        thumbnails = [image["thumbnail"] for image in answer["results"][0]["images"] if "thumbnail" in image]
        assert thumbnails
        assert all(url.startswith(f"http://engine.example{prefix}/images/") for url in thumbnails)
        assert get(thumbnails[0].removeprefix(f"http://engine.example{prefix}")).status_code == 200


def test_the_page_below_a_prefix_ends_in_a_slash(backend: LocalBackend) -> None:
    with TestClient(make_app(lambda: backend), root_path="/frogs") as client:
        answer = client.get("/frogs?lang=de", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/frogs/?lang=de")


def test_number_of_results_can_be_asked_for(client: httpx.Client) -> None:
    assert len(post(client, RED, BLUE, params={"nb-results": 1}).json()["results"]) == 1
    assert post(client, RED, params={"nb-results": 0}).status_code == 400


def test_info_false_leaves_the_images_out_in_the_address_and_in_the_form(client: httpx.Client) -> None:
    assert post(client, RED, params={"info": "false"}).json()["results"][0]["images"] == []
    assert post(client, RED, data={"info": "false"}).json()["results"][0]["images"] == []
    assert post(client, RED, data={"info": "1"}).json()["results"][0]["images"] != []


@pytest.mark.parametrize(
    ("bodies", "status", "message"),
    [
        ([], 400, "multipart/form-data"),
        ([RED] * 6, 400, "1 to 5 photographs"),
        ([b"hello"], 415, "the photograph cannot be used: not an image"),
        ([RED, RED[:60]], 415, "photograph 2 cannot be used: truncated"),
        ([b""], 400, "the photograph is empty"),
        ([photo((1, 2, 3), (13, 17))], 415, "too small"),
    ],
)
def test_the_answer_to_a_bad_request_says_what_is_wrong(
    client: httpx.Client, bodies: list[bytes], status: int, message: str
) -> None:
    answer = post(client, *bodies)
    assert answer.status_code == status
    assert answer.json()["status"] == "error"
    assert answer.json()["code"] == status
    assert message in answer.json()["message"]


@pytest.mark.parametrize(("body", "reason"), [(b"KILL", "decoder crashed"), (b"HANG", "decoder timeout")])
def test_a_photograph_that_kills_or_hangs_its_decoder_is_refused_and_the_service_goes_on(
    client: httpx.Client, body: bytes, reason: str
) -> None:
    answer = post(client, RED, body)
    assert (answer.status_code, answer.json()["status"]) == (415, "error")
    assert f"photograph 2 cannot be used: {reason}" in answer.json()["message"]
    assert post(client, RED).json()["results"][0]["name"] == "Ruber primus"


def test_a_service_that_cannot_start_a_decoder_says_so(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> Image.Image:
        raise ClusterError("no process for decoding can be started")

    monkeypatch.setattr(PhotoDecoder, "decode", fail)
    answer = post(client, RED)
    assert (answer.status_code, answer.json()["code"]) == (503, 503)
    assert "try again later" in answer.json()["message"]


def test_a_url_that_cannot_be_fetched_is_an_error_with_the_reason(client: httpx.Client) -> None:
    answer = client.get("/identify", params={"image": "https://photos.example/no.jpg"})
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "https://photos.example/no.jpg cannot be fetched: not found",
    )
    assert client.get("/identify", params={"image": ["https://photos.example/red.jpg"] * 6}).status_code == 400


def test_too_large_a_body_is_refused_whether_announced_or_not(client: httpx.Client) -> None:
    origin = {"Origin": "https://herbarium.example"}
    answer = client.post("/identify", content=b"x" * (MAX_BYTES + 1), headers=origin)
    assert (answer.status_code, answer.json()["code"]) == (413, 413)
    assert answer.headers["access-control-allow-origin"] == "*"
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    chunks = (form if n == 0 else b"x" * 2**20 for n in range(60))
    answer = client.post("/identify", content=chunks, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, 413)


@pytest.mark.parametrize("path", ["/identify?image=https://no.example/", "/nothing", "/status"])
def test_every_answer_can_be_read_by_a_page_elsewhere(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Origin": "https://herbarium.example"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_an_unexpected_failure_is_answered_too(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> Identification:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(LocalBackend, "identify", fail)
    answer = client.post("/identify", files={"image": RED}, headers={"Origin": "https://herbarium.example"})
    assert (answer.status_code, answer.json()["status"]) == (500, "error")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "unforeseen" in caplog.text
    assert "unforeseen" not in answer.text


RED_ID = image_id("https://photos.example/11/0.jpg")


def test_answers_name_the_original_and_the_thumbnail_at_the_address_that_the_client_used(client: httpx.Client) -> None:
    first = post(client, RED).json()["results"][0]["images"][0]
    assert first["url"] == "https://photos.example/11/0.jpg"
    assert first["thumbnail"] == f"{client.base_url}/images/{RED_ID}".replace("//images", "/images")
    assert first["occurrence"] == "https://www.gbif.org/occurrence/1100"
    assert client.get(first["thumbnail"]).content == thumbnail(COLOURS["11"], 0)
    behind_a_proxy = {"Host": "frogs.example", "X-Forwarded-Proto": "https"}
    first = post(client, RED, headers=behind_a_proxy).json()["results"][0]["images"][0]
    assert first["thumbnail"] == f"https://frogs.example/images/{RED_ID}"


def test_a_bad_form_leaves_no_line_in_the_log(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="image"\r\nContent-Transfer-Encoding: x\r\n\r\n1\r\n--b--'
    for body in (b"--c\r\n", part):
        assert client.post("/identify", content=body, headers=headers).status_code in (400, 415)
    assert caplog.text == ""


def test_a_refused_value_is_named_with_the_reason_and_no_more(client: httpx.Client) -> None:
    answer = client.get("/v2/identify/all", params={"images": "https://p.example/", "lat": "1", "date": "x"})
    assert answer.json()["message"] == "date: write a date as ISO 8601 does, such as 2026-05-01; see /help"
    answer = post(client, RED, params={"lat": "1"})
    assert answer.json()["message"] == "the request: give both lat and lon, or neither; see /help"


DOCS = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_guide_names_every_route_and_parameter_and_no_other(client: httpx.Client) -> None:
    guide = DOCS.read_text(encoding="utf-8")
    paths = client.get("/openapi.json").json()["paths"]
    known = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    known |= {("GET", "/docs"), ("GET", "/openapi.json")}
    rows = [line.split("|")[1] for line in guide.splitlines() if line.startswith("| `")]
    named = {
        (method, path)
        for row in rows
        for methods, path in re.findall(r"((?:`?[A-Z]+`?, `)*[A-Z]+) (/[^`]*)`", row)
        for method in re.findall(r"[A-Z]+", methods)
    }
    assert named == known
    parameters = {
        each["name"] for path in paths.values() for one in path.values() for each in one.get("parameters", ())
    }
    assert {name for name in parameters if f"`{name}" not in guide and f"{{{name}}}" not in guide} == set()


def test_the_examples_of_the_guide_are_those_of_the_openapi() -> None:
    guide = DOCS.read_text(encoding="utf-8")
    guide = guide.replace("(4.0)", f"({FORMAT_VERSION}.0)").replace("aitax-ray:4", f"aitax-ray:{FORMAT_VERSION}")
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", guide, re.DOTALL)]
    expected = [examples.C4C_ANSWER, examples.PN_ANSWER, examples.NIA_ANSWER]
    for ours, theirs in zip(shown, expected, strict=True):
        assert ours.pop("assessment") in (theirs["assessment"], {})
        assert ours == {name: value for name, value in theirs.items() if name != "assessment"}
