from pathlib import Path

import pytest

from aitax_ray.doctor import place
from aitax_ray.doctor.place import Marker, judge_views, look_for, try_storage


def test_a_folder_is_tried_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "TRIAL_BYTES", 1 << 16)
    monkeypatch.setattr(place, "SLOW_BYTES_PER_S", 0)
    found = try_storage(str(tmp_path))
    assert [one.area for one in found] == ["storage", "disk"]
    assert "MB/s, deletes" in found[0].text
    assert found[0].level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_is_slow_or_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "TRIAL_BYTES", 1)
    monkeypatch.setattr(place, "SLOW_BYTES_PER_S", 1e15)
    monkeypatch.setattr(place, "MIN_FREE", 1 << 60)
    assert [one.level for one in try_storage(str(tmp_path))] == ["warning", "warning"]


@pytest.mark.parametrize("root", ["", "nowhere://bucket/frogs", "/proc/frogs"])
def test_a_place_that_cannot_be_used_is_broken_with_the_reason(root: str) -> None:
    (found,) = try_storage(root)
    assert (found.area, found.level) == ("storage", "broken")
    assert found.remedy


def test_nodes_must_see_the_files_of_the_others(tmp_path: Path) -> None:
    with Marker(str(tmp_path / "here")) as marker:
        assert look_for(str(tmp_path / "here"), marker.path) == ""
        assert "does not see" in look_for(str(tmp_path / "there"), marker.path)
    assert list((tmp_path / "here").iterdir()) == []
    assert judge_views("s3://frogs", {"one": "", "two": ""})[0].text == "all 2 nodes see and write the same s3://frogs"
    (found,) = judge_views("/frogs", {"one": "", "two": "does not see it"})
    assert found.text == "/frogs on two: does not see it"
    assert "every node must reach the root" in found.remedy
