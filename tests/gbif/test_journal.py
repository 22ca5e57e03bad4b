from pathlib import Path
from typing import Any

import pytest

from aitax_ray.errors import StorageError
from aitax_ray.gbif import journal as journal_module
from aitax_ray.gbif.journal import Journal, digest
from aitax_ray.storage import Storage

FOLDER = "archive/answers"


@pytest.fixture(params=["{}", "memory://{}"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder, and what fsspec opens, which stands for an object store."""
    return Storage(request.param.format(tmp_path / "root"))


def refuse() -> Any:
    raise AssertionError("asked again")


def test_an_answer_is_asked_for_once_in_all_runs(storage: Storage) -> None:
    with Journal(storage, FOLDER) as journal:
        assert journal.ask("a", lambda: {"frogs": 3}) == {"frogs": 3}
        assert journal.ask("a", refuse) == {"frogs": 3}
        assert journal.ask("b", lambda: None) is None
    with Journal(storage, FOLDER) as journal:
        assert journal.answers == {"a": {"frogs": 3}, "b": None}
        assert journal.ask("b", refuse) is None
        journal.add("c\n", "ä\ud800")
    assert Journal(storage, FOLDER).answers == {"a": {"frogs": 3}, "b": None, "c\n": "ä\ud800"}


def test_on_a_disk_an_answer_is_there_when_it_has_come(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    journal = Journal(storage, FOLDER)
    for number in range(3):
        journal.add(str(number), number)
        assert Journal(storage, FOLDER).answers[str(number)] == number  # though this one never ends properly


def test_in_an_object_store_answers_are_there_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(f"memory://{tmp_path}")
    journal = Journal(storage, FOLDER)
    journal.add("a", 1)
    assert Journal(storage, FOLDER).answers == {}
    monkeypatch.setattr(journal_module, "SAVE_EVERY_S", 0.0)
    journal.add("b", 2)
    assert Journal(storage, FOLDER).answers == {"a": 1, "b": 2}


def test_a_line_that_a_kill_cut_is_skipped_and_harms_no_other(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with Journal(storage, FOLDER) as journal:
        journal.add("a", 1)
        journal.add("b", [2, "x"])
    [file] = storage.files(FOLDER)
    path = Path(storage.full(file.path))
    path.write_bytes(path.read_bytes()[:-4])
    with Journal(storage, FOLDER) as journal:
        assert journal.answers == {"a": 1}
        journal.add("c", 3)
    assert Journal(storage, FOLDER).answers == {"a": 1, "c": 3}


def test_nothing_is_left_of_a_journal_that_was_deleted(storage: Storage) -> None:
    with Journal(storage, FOLDER) as journal:
        journal.add("a", 1)
        journal.delete()
        assert journal.answers == {"a": 1}
    assert storage.files(FOLDER) == []


def test_without_a_storage_nothing_is_written() -> None:
    with Journal(None, FOLDER) as journal:
        assert journal.ask("a", lambda: 1) == 1
        assert journal.ask("a", refuse) == 1
        journal.delete()


def test_a_disk_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("no folder", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot be written: .*; make room or choose another --root"):
        Journal(Storage(str(tmp_path)), FOLDER).add("a", 1)


def test_a_digest_is_the_same_for_the_same() -> None:
    one: list[Any] = [{"a": 1, "b": [2]}]
    assert digest(one) == digest([{"b": [2], "a": 1}])
    assert digest(one) != digest([{"b": [2], "a": 2}])
