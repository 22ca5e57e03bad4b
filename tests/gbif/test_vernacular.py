from pathlib import Path
from typing import NoReturn

import pytest

from aitax_ray.errors import GbifError
from aitax_ray.gbif import vernacular
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.vernacular import CACHE, ask, ask_vernacular_names, choose
from aitax_ray.storage import Storage
from tests.fake_gbif import Answer, Gbif, as_json
from tests.gbif_server import Server


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def name(text: str, language: str = "eng", **more: bool) -> dict[str, object]:
    return {"vernacularName": text, "language": language, **more}


def test_the_preferred_name_wins() -> None:
    rows = [name("White frog")] * 5 + [name("Pale frog", preferred=True), name("Weißfrosch", "deu")]
    assert choose(rows) == {"deu": "Weißfrosch", "eng": "Pale frog"}


def test_else_the_name_that_most_sources_give_wins() -> None:
    assert choose([name("b"), name("a"), name("b"), name("c")]) == {"eng": "b"}
    assert choose([name("b"), name("a")]) == {"eng": "a"}


def test_names_without_language_or_text_do_not_count() -> None:
    assert choose([name("x", ""), name("  "), {"vernacularName": "y"}, {"language": "eng"}]) == {}
    assert choose([name("  white \n frog ")]) == {"eng": "white frog"}


def test_each_taxon_is_asked_for_once(server: Server, gbif: Gbif, client: Client, storage: Storage) -> None:
    gbif.vernacular["11"] = [name("White frog")]
    assert ask_vernacular_names(client, server.url, ["11", "12"], storage) == {"11": {"eng": "White frog"}, "12": {}}
    assert ask_vernacular_names(client, server.url, ["12", "11", "13"], storage) == {
        "11": {"eng": "White frog"},
        "12": {},
        "13": {},
    }
    assert [path.split("/")[3] for path in server.paths()] == ["11", "12", "13"]
    assert set(storage.read_json(CACHE)) == {"11", "12", "13"}


def test_a_taxon_that_gbif_does_not_know_has_no_names(server: Server, client: Client) -> None:
    assert ask(client, server.url, "Q2M4") == {}
    server.routes["/v1/species/7/vernacularNames"] = Answer(status=404)
    assert ask(client, server.url, "7") == {}


def test_where_gbif_fails_names_are_missing_and_a_warning_says_so(
    server: Server, gbif: Gbif, client: Client, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    gbif.vernacular["11"] = [name("White frog")]
    server.routes["/v1/species/12/vernacularNames"] = Answer(status=500)
    assert ask_vernacular_names(client, server.url, ["11", "12", "13"], storage) == {"11": {"eng": "White frog"}}
    assert "going on without all vernacular names" in caplog.text
    assert storage.read_json(CACHE) == {"11": {"eng": "White frog"}}


class KilledError(BaseException):
    """What no one catches."""


def test_a_killed_run_asks_only_for_what_is_missing_and_writes_the_names_once(
    server: Server, gbif: Gbif, client: Client, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gbif.vernacular["11"] = [name("White frog")]
    keys = ["11", "12", "13", "14"]
    written: list[str] = []
    write = Storage.write_json
    monkeypatch.setattr(Storage, "write_json", lambda s, path, value: (written.append(path), write(s, path, value)))
    with monkeypatch.context() as patch:
        patch.setattr(vernacular, "choose", lambda rows: {} if len(server.requests) < 3 else kill())
        with pytest.raises(KilledError):
            ask_vernacular_names(client, server.url, keys, storage)
    assert written == []
    server.requests.clear()
    ask_vernacular_names(client, server.url, keys, storage)
    assert [path.split("/")[3] for path in server.paths()] == ["13", "14"]
    assert list(storage.read_json(CACHE)) == keys
    assert written == [CACHE]
    assert [f.path for f in storage.files("archive")] == [CACHE]
    ask_vernacular_names(client, server.url, keys, storage)
    assert written == [CACHE]


def kill() -> NoReturn:
    raise KilledError


@pytest.mark.parametrize("body", [["x"], {"results": "x"}, {"results": [1]}, {"results": {"a": 1}}])
def test_an_answer_of_another_shape_is_an_error_in_one_sentence(server: Server, client: Client, body: object) -> None:
    server.routes["/v1/species/11/vernacularNames"] = as_json(body)
    with pytest.raises(GbifError, match="GBIF answers"):
        ask(client, server.url, "11")
