"""serving.client: asking an engine or a service, and showing what it says."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import AitaxError, RequestError, SettingsError
from aitax_ray.serving.accounts import Accounts
from aitax_ray.serving.c4c import REJECTED, C4cImage, C4cResult, to_answer
from aitax_ray.serving.client import identify_files, show
from aitax_ray.serving.decoding import MAX_BYTES
from aitax_ray.serving.keys import add_key
from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.answers import make_identification
from tests.serving.service import LocalBackend, serve
from tests.serving.test_decoding import write_fragile_decoder
from tests.web import Web


@pytest.fixture
def engine(tmp_path: Path) -> str:
    return str(write_small_engine(tmp_path / "colours-1"))


def ask(
    photos: list[Path], engine: str | None, url: str | None = None, together: bool = False, as_json: bool = True
) -> None:
    identify_files(photos, engine=engine, url=url, together=together, max_results=2, as_json=as_json)


def files(folder: Path, *keys: str) -> list[Path]:
    paths = [folder / f"{key}.png" for key in keys]
    for key, path in zip(keys, paths, strict=True):
        path.write_bytes(photo(COLOURS[key]))
    return paths


def test_each_photograph_has_its_answer_in_json(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(files(tmp_path, "11", "33"), engine)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["results"][0]["gbif_id"] for a in answers] == ["11", "33"]
    assert [Path(a["photos"][0]).name for a in answers] == ["11.png", "33.png"]


def test_photographs_of_one_individual_have_one_answer(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(files(tmp_path, "11", "33"), engine, together=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["results"]) == 2


def test_table_shows_species_family_author_and_licence(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(files(tmp_path, "22"), engine, as_json=False)
    out = capsys.readouterr().out
    for word in ("Viridis secundus", "Coloridae", "the viridis one", "holder 1", "creativecommons.org", "%"):
        assert word in out


@pytest.mark.parametrize("num", [0, 1, 3])
def test_an_answer_has_the_similar_photographs_asked_for_with_their_credits(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], num: int
) -> None:
    given = {"engine": engine, "url": None, "together": False, "max_results": 1, "num_illustrations": num}
    identify_files(files(tmp_path, "22"), **given, as_json=True)  # type: ignore[arg-type]
    images = json.loads(capsys.readouterr().out)["results"][0]["images"]
    assert len(images) == num
    for image in images:
        assert image["url"].startswith("https://photos.example/22/")
        assert image["occurrence"].startswith("https://www.gbif.org/occurrence/220")
        assert image["creator"].startswith("author ")
        assert (image["publisher"], image["thumbnail"]) == ("Colour Society", "")
        assert 0.5 < image["similarity"] <= 1
    identify_files(files(tmp_path, "22"), **given, as_json=False)  # type: ignore[arg-type]
    out = "".join(part.strip() for part in capsys.readouterr().out.split("│"))
    assert out.count("https://photos.example/22/") == num
    for word in ("1.00, author 0, Colour Society, http://creativecommons.org/licenses/by/4.0/", "/occurrence/2200"):
        assert out.count(word) == min(num, 1)


def test_text_in_the_table_is_text_and_neither_markup_nor_a_command_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = C4cResult(
        name="Rana [red]alba[/]", score=0.5, gbif_id="1", authorship="[/b]", vernacularName="\x1b[2Jfrog", genus="",
        family="[/nonsense]", images=[C4cImage(url="https://p.example/[1].jpg", license="[x]", rights_holder="[/y]",
        publisher="")],
    )  # fmt: skip
    answer = to_answer(make_identification()).model_copy(update={"results": [result], "message": "[none]"})
    show([tmp_path / "a[bold]b.jpg"], answer, as_json=False)
    out = capsys.readouterr().out
    for word in ("a[bold]b.jpg", "Rana [red]alba[/]", "[/nonsense]", "[none]", "[/y], [x], https://p.example/[1].jpg"):
        assert word in out
    assert "\x1b[2J" not in out


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        ({}, "Of answers like this one, 95 % should be right."),
        (
            {"is_accepted": False, "rank": "genus", "name": "Rana", "score": 0.873},
            "The species is not certain. The genus is: Rana (87 %).",
        ),
        ({"lookalikes": ("Rana dalmatina", "R. x")}, "The engine cannot separate it from Rana dalmatina, R. x."),
        ({"is_known": False, "name": "", "lookalikes": ("Rana dalmatina",)}, REJECTED),
        ({"is_known": False}, "The nearest that it knows is Rana temporaria; --no-reject lists it."),
        ({"is_accepted": False, "rank": "species"}, "Of answers like this one, 95 % should be right."),
        ({"is_accepted": False, "rank": ""}, ""),
    ],
)
def test_below_the_table_stands_how_far_the_answer_can_be_believed(
    judgement: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show([tmp_path / "a.jpg"], to_answer(make_identification(**judgement)), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert words == (lines[-1].strip() if words else "")
    assert words or lines[-1].startswith(("└", "├", "┃", "│", "╰", "┡", "┗"))


def test_a_file_that_kills_its_decoder_is_named_and_the_others_are_answered(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fragile_decoder(tmp_path, monkeypatch)
    (tmp_path / "bad.jpg").write_bytes(b"KILL")
    with pytest.raises(AitaxError, match="1 of 2 photographs"):
        ask([tmp_path / "bad.jpg", *files(tmp_path, "11")], engine)
    out, err = capsys.readouterr()
    assert json.loads(out)["results"][0]["gbif_id"] == "11"
    assert "bad.jpg cannot be used: decoder crashed" in err


def test_a_file_of_too_many_bytes_is_not_read(engine: str, tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for client in ({"engine": engine}, {"engine": None, "url": "http://127.0.0.1:9"}):
        with pytest.raises(RequestError, match=r"huge\.jpg cannot be used: it has more than 52,428,800 bytes"):
            ask([tmp_path / "huge.jpg"], **client)  # type: ignore[arg-type]


def test_a_bad_file_is_named_and_the_others_are_answered(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note.txt").write_text("no photograph")
    with pytest.raises(AitaxError, match="2 of 3 photographs"):
        ask([tmp_path / "note.txt", tmp_path / "absent.jpg", *files(tmp_path, "11")], engine)
    out, err = capsys.readouterr()
    assert json.loads(out)["results"][0]["gbif_id"] == "11"
    assert "note.txt cannot be used: not an image" in err
    assert "absent.jpg cannot be read" in err


@pytest.mark.parametrize("together", [False, True])
def test_a_single_question_that_cannot_be_answered_is_one_error(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], together: bool
) -> None:
    (tmp_path / "note.txt").write_text("no photograph")
    photos = [*(files(tmp_path, "11", "22") if together else []), tmp_path / "note.txt"]
    with pytest.raises(RequestError, match=r"note\.txt cannot be used: not an image"):
        ask(photos, engine, together=together)
    assert capsys.readouterr() == ("", "")


def test_a_missing_service_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(AitaxError, match=r"no answer from http://127\.0\.0\.1:9 .*`aitax serve` starts one"):
        ask(files(tmp_path, "11"), None, url="http://127.0.0.1:9/")


def test_engine_or_url_must_be_given_and_not_both(tmp_path: Path) -> None:
    for engine, url in ((None, None), ("e", "http://x")):
        with pytest.raises(SettingsError, match="either --engine"):
            ask([tmp_path / "a.jpg"], engine, url)


def test_another_service_at_the_address_is_an_error(tmp_path: Path, web: Web) -> None:
    with pytest.raises(AitaxError, match="but not as `aitax serve` does: check --url"):
        ask(files(tmp_path, "11"), None, url=web.url(""))


def test_a_service_with_keys_is_asked_with_the_key_of_the_environment(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, keys = LocalBackend(Path(engine)), tmp_path / "keys.jsonl"
    key = add_key(keys, "ann")
    backend.ledger = Accounts(str(keys))
    with contextlib.contextmanager(serve)(backend) as service:
        monkeypatch.delenv("AITAX_KEY", raising=False)
        with pytest.raises(RequestError, match="this needs a key"):
            ask(files(tmp_path, "11"), None, str(service.base_url))
        monkeypatch.setenv("AITAX_KEY", key)
        ask(files(tmp_path, "11"), None, str(service.base_url))
    assert json.loads(capsys.readouterr().out)["results"][0]["gbif_id"] == "11"
