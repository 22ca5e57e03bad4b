from datetime import UTC, datetime
from pathlib import Path

import pytest

from aitax_ray import takedowns, workspace
from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Request

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def request(value: str = "Anna", **more: object) -> Request:
    return Request.model_validate({"kind": "creator", "value": value, "requested": TIME} | more)


def test_requests_are_read_as_they_were_written_the_oldest_first(storage: Storage) -> None:
    later = request("Bob", requested=TIME.replace(year=2027), image_ids=["b"], reason="he wrote")
    earlier = request(image_ids=["a"], urls=["https://x.org/é"], gbif_ids=["1"])
    for each in (later, earlier):
        takedowns.write_request(storage, each)
    assert takedowns.read_requests(storage) == [earlier, later]
    assert takedowns.withdrawn_ids([later, earlier]) == ["a", "b"]


def test_the_log_is_in_no_folder_of_a_stage() -> None:
    folders = {folder for folders in workspace.FOLDERS.values() for folder in folders}
    assert takedowns.FOLDER not in folders


def test_restored_requests_stay_in_the_log_without_effect(storage: Storage) -> None:
    takedowns.write_request(storage, request(restored=TIME))
    assert takedowns.read_active_requests(storage) == []
    assert len(takedowns.read_requests(storage)) == 1


def test_files_of_other_names_are_no_requests(storage: Storage) -> None:
    storage.write_json("takedowns/digests.json", {})
    storage.write_json("takedowns/20260102-030405-notes.json", {})
    assert takedowns.read_requests(storage) == []


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"kind": "person"}'])
def test_a_damaged_request_is_an_error_since_its_photographs_would_come_back(storage: Storage, content: bytes) -> None:
    storage.write_bytes(f"takedowns/{request().name}.json", content)
    with pytest.raises(StorageError, match="is no request of the log of take-downs: restore the file from a backup"):
        takedowns.read_requests(storage)


def test_requests_of_one_time_and_other_criteria_have_other_names() -> None:
    names = {request().name, request("Bob").name, request(kind="url").name}
    assert len(names) == 3
    assert all(takedowns.NAME.fullmatch(name) for name in names)


def test_requests_are_joined_without_repeating_photographs() -> None:
    joined = request(image_ids=["b", "a"], reason="first").joined_with(request(image_ids=["c", "b"], reason="second"))
    assert (joined.image_ids, joined.reason) == (["a", "b", "c"], "first")


def test_the_list_for_services_is_read_as_it_was_written(storage: Storage) -> None:
    assert takedowns.read_withdrawn(storage, "engines/withdrawn.json") == frozenset()
    takedowns.write_withdrawn(storage, "engines/withdrawn.json", ["b", "a", "b"])
    assert storage.read_json("engines/withdrawn.json") == {"image_ids": ["a", "b"]}
    assert takedowns.read_withdrawn(storage, "engines/withdrawn.json") == {"a", "b"}


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"image_ids": null}'])
def test_a_damaged_list_is_an_error_and_no_empty_list(storage: Storage, content: bytes) -> None:
    storage.write_bytes("withdrawn.json", content)
    with pytest.raises(StorageError, match="is no list of withdrawn photographs"):
        takedowns.read_withdrawn(storage, "withdrawn.json")
