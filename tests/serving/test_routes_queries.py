"""serving.routes_queries: photographs are kept where the operator wants it, and deleted by who sent them."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitax_ray.serving.queries import QueryStore
from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.service import RED_URL, LocalBackend, serve

RED = photo(COLOURS["11"])
PLACE = {"lat": "47.5", "lon": "-3", "date": "2026-05-01"}


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, QueryStore, Path]]:
    backend = LocalBackend(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))
    folder = tmp_path_factory.mktemp("kept")
    backend.queries = store = QueryStore(str(folder), 10**9)
    store.flush(20)
    for client in serve(backend):
        yield client, store, folder


def read(folder: Path, query_id: str) -> dict[str, Any]:
    (path,) = folder.rglob(f"{query_id}.zip")
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        found: dict[str, Any] = json.loads(archive.read("query.json")) | {"files": archive.namelist()}
    return found


@pytest.mark.parametrize(
    ("path", "name"),
    [("/identify", "image"), ("/v2/identify/all", "images"), ("/v2/observation/identify", "image")],
)
def test_each_format_says_how_to_delete_what_is_kept(
    keeping: tuple[httpx.Client, QueryStore, Path], path: str, name: str
) -> None:
    client, store, folder = keeping
    answer = client.post(path, files=[(name, RED), (name, RED)], data=PLACE, params={"api-key": "secret-key"})
    kept = answer.json()["kept"]
    store.flush(20)
    found = read(folder, kept["id"])
    assert found.pop("time").startswith("20")
    assert found.pop("answer")["name"] == "Ruber primus"
    assert found == {
        "id": kept["id"],
        "engine": "colours-1",
        "observation": {"lat": 47.5, "lon": -3.0, "date": "2026-05-01"},
        "files": ["query.json", "1.jpg", "2.jpg"],
    }
    everything = b"".join(path.read_bytes() for path in folder.rglob("*.zip"))
    assert not {text for text in (b"secret-key", b"127.0.0.1", kept["token"].encode()) if text in everything}
    assert client.delete(f"/queries/{kept['id']}", params={"token": "wrong"}).status_code == 403
    assert client.delete(f"/queries/{kept['id']}", headers={"X-Delete-Token": kept["token"]}).status_code == 204
    assert not list(folder.rglob(f"{kept['id']}.zip"))


def test_photographs_by_address_are_kept_too_and_the_token_may_stand_in_the_address(
    keeping: tuple[httpx.Client, QueryStore, Path],
) -> None:
    client, store, folder = keeping
    kept = client.get("/identify", params={"image": RED_URL}).json()["kept"]
    store.flush(20)
    assert read(folder, kept["id"])["observation"] == {}
    assert client.delete(f"/queries/{kept['id']}", params={"token": kept["token"]}).status_code == 204
    assert client.get("/status").json()["keeps_photographs"] is True


def test_what_gets_an_error_is_not_kept(keeping: tuple[httpx.Client, QueryStore, Path]) -> None:
    client, store, folder = keeping
    before = len(list(folder.rglob("*.zip")))
    assert client.post("/identify", files={"image": b"no photograph"}).status_code == 415
    assert client.post("/v2/embeddings", files={"image": RED}).status_code == 200
    store.flush(20)
    assert len(list(folder.rglob("*.zip"))) == before


def test_the_page_gives_notice_and_deletes(keeping: tuple[httpx.Client, QueryStore, Path]) -> None:
    client, store, folder = keeping
    assert "keeps your photographs and the answer" in client.get("/?lang=en").text
    answer = client.post("/?lang=en", files={"image": RED}).text
    store.flush(20)
    fields = dict(re.findall(r'<input type="hidden" name="(id|token)" value="([^"]+)"', answer))
    assert list(folder.rglob(f"{fields['id']}.zip"))
    wrong = client.post("/forget?lang=en", data=fields | {"token": "wrong"})
    assert (wrong.status_code, "were not deleted" in wrong.text) == (403, True)
    whole = client.post("/forget?lang=en", data=fields)
    assert (whole.status_code, "<html" in whole.text) == (200, True)
    assert "Your photographs were deleted." in whole.text
    part = client.post("/forget?lang=en", data=fields, headers={"X-Part": "answer"})
    assert (part.status_code, "<html" in part.text) == (200, False)
    assert not list(folder.rglob(f"{fields['id']}.zip"))


def test_by_default_nothing_is_kept(service: httpx.Client) -> None:
    answer = service.post("/identify", files={"image": RED}).json()
    assert "kept" not in answer
    assert service.get("/status").json()["keeps_photographs"] is False
    assert service.delete("/queries/1", params={"token": "x"}).status_code == 404
    page = service.get("/?lang=en").text
    assert "are not kept" in page
    assert "keeps your photographs" not in page
