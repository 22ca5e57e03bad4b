"""serving.photographs: uploads and photographs by URL reach the engine in their order."""

import gc

import httpx
import pytest
from python_multipart.multipart import File

from aitax_ray.serving.form import Upload
from tests.engines import COLOURS, photo
from tests.serving.service import RED_URL

RED, BLUE = photo(COLOURS["11"]), photo(COLOURS["33"])


@pytest.mark.parametrize("path", ["/identify", "/v2/identify/all"])
@pytest.mark.parametrize("names", [("image", "image"), ("images", "images"), ("image", "images")])
def test_photographs_are_named_image_or_images(service: httpx.Client, path: str, names: tuple[str, str]) -> None:
    files = [(name, (name, body)) for name, body in zip(names, (RED, BLUE), strict=True)]
    assert len(service.post(path, files=files).json()["results"]) == 2
    assert service.get(path, params=[(name, RED_URL) for name in names]).status_code == 200


def test_a_photograph_that_cannot_be_used_is_named_by_its_place(service: httpx.Client) -> None:
    answer = service.post("/v2/identify/all", files=[("images", RED), ("image", b"no photograph")])
    assert (answer.status_code, "photograph 2 cannot be used" in answer.json()["message"]) == (415, True)


@pytest.mark.parametrize("path", ["/identify", "/v2/identify/all"])
def test_no_photograph_and_too_many_are_refused(service: httpx.Client, path: str) -> None:
    for answer in (
        service.post(path, files={"other": RED}),
        service.post(path, files=[("image", RED)] * 6),
        service.get(path),
        service.get(path, params=[("image", RED_URL)] * 6),
    ):
        assert answer.status_code == 400
        assert "1 to 5 photographs" in answer.json()["message"]


def test_nothing_holds_an_upload_once_it_is_answered(service: httpx.Client) -> None:
    gc.collect()
    gc.disable()  # a service that is busy collects cycles late, and each photograph may have 50 MB
    try:
        for body in (photo(COLOURS["11"]), b"no photograph", b""):
            service.post("/identify", files={"image": ("a.jpg", body)})
        service.get("/healthz")  # the last request is over
        # By `type`, since isinstance asks every object for its class, and some of torch's answer with a warning.
        kept = [each for each in gc.get_objects() if type(each) in (Upload, File)]
        assert not [each for each in kept if type(each) is Upload or not each.file_object.closed]
    finally:
        gc.enable()
