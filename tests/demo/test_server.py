import io
import socket
import threading

import httpx
import pytest
from PIL import Image

from aitax_ray.demo.server import serve_world
from aitax_ray.demo.world import DOI, DOWNLOAD_KEY
from aitax_ray.errors import AitaxError
from tests.demo.conftest import rows

DOWNLOAD = "/v1/occurrence/download"


@pytest.fixture(scope="module")
def client(served_world):
    with httpx.Client(base_url=served_world[1], trust_env=False) as client:
        yield client


def test_the_server_listens_on_loopback_only(served_world):
    assert served_world[1].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("asked", [DOWNLOAD_KEY, DOI, DOI.upper()])
def test_a_download_is_described_by_key_and_by_doi_as_gbif_does(served_world, client, asked: str):
    world, base_url = served_world
    record = client.get(f"{DOWNLOAD}/{asked}").json()
    assert record["key"] == DOWNLOAD_KEY
    assert record["doi"] == DOI
    assert record["status"] == "SUCCEEDED"
    assert record["request"]["format"] == "DWCA"
    assert record["request"]["predicate"]["value"] == "StillImage"
    assert len(record["request"]["checklistKey"]) == 36
    assert record["downloadLink"] == f"{base_url}{DOWNLOAD}/request/{DOWNLOAD_KEY}.zip"
    assert record["size"] == (world.folder / "archive.zip").stat().st_size
    assert record["totalRecords"] == world.num_occurrences + 1  # and one that is known to the genus only
    assert record["numberDatasets"] == 2
    assert record["created"] < record["eraseAfter"]
    assert "licenses/by-nc" in record["license"]


def test_the_archive_behind_the_link_is_the_one_that_was_built(served_world, client):
    link = client.get(f"{DOWNLOAD}/{DOI}").json()["downloadLink"]
    assert client.get(link).content == (served_world[0].folder / "archive.zip").read_bytes()


def test_a_part_of_the_archive_can_be_asked_for(served_world, client):
    archive = (served_world[0].folder / "archive.zip").read_bytes()
    part = client.get(f"{DOWNLOAD}/request/{DOWNLOAD_KEY}.zip", headers={"Range": "bytes=100-"})
    assert part.status_code == 206
    assert part.content == archive[100:]


def test_every_photograph_of_a_clean_row_is_a_jpeg_and_every_dead_link_is_404(served_world, client):
    world, _ = served_world
    media = rows(world.folder, "multimedia.txt")
    urls = [row["identifier"] for row in media if row["type"] == "StillImage" and row["identifier"]]
    answers = [client.get(url) for url in urls]
    assert [a.status_code for a in answers].count(404) == 1
    good = [a for a in answers if a.status_code == 200]
    assert len(good) == world.num_images + 1
    for answer in good:
        assert answer.headers["content-type"] == "image/jpeg"
        picture = Image.open(io.BytesIO(answer.content))
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", (360, 270))


def test_the_page_an_occurrence_refers_to_is_there(client):
    assert "9900000000" in client.get("/occurrence/9900000000").text


@pytest.mark.parametrize(
    "path",
    [
        f"{DOWNLOAD}/0000000-000000000000000",
        f"{DOWNLOAD}/10.15468/dl.other",
        f"{DOWNLOAD}/request/0000000-000000000000000.zip",
        "/photos/none.jpg",
        "/photos/..%2Farchive.zip",
        "/photos/..%2F..%2Fetc%2Fpasswd.jpg",
        "/",
    ],
)
def test_what_is_not_there_is_404(client, path: str):
    assert client.get(path).status_code == 404


def test_the_server_answers_before_there_is_a_world_and_is_gone_afterwards(tmp_path):
    before = threading.active_count()
    with serve_world(tmp_path) as base_url:
        assert httpx.get(f"{base_url}{DOWNLOAD}/{DOWNLOAD_KEY}", trust_env=False).status_code == 404
    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(base_url, trust_env=False)


def test_a_port_can_be_chosen_and_taken_again_after_the_server_stopped(tmp_path):
    with serve_world(tmp_path) as first:
        port = int(first.rsplit(":", 1)[1])
    with serve_world(tmp_path, port) as second:
        assert second == first


def test_a_port_that_is_taken_is_refused_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = rf"cannot use port {port} \(.*\): stop the program that uses the port, or give another --root"
        with pytest.raises(AitaxError, match=message) as caught, serve_world(tmp_path, port):
            pass
    assert caught.value.exit_status == 1
