import doctest
import os
from pathlib import Path

import numpy as np
import pytest

from aitax_ray.errors import DataError
from aitax_ray.evaluation import external as module
from aitax_ray.evaluation.external import check_folder, digest_folder, read_folder
from tests.small import KEYS, photo, write_model, write_root


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_photographs_are_read_by_folder_and_what_is_no_photograph_is_counted(tmp_path: Path) -> None:
    ws = write_root(tmp_path / "root", ["train"])
    write_model(ws)
    folder = tmp_path / "photos"
    for name, key in (("Rana alba", KEYS[0]), ("NOVA", KEYS[1])):
        (folder / name / "deep").mkdir(parents=True)
        for number in range(3):
            photo(key, number).save(folder / name / "deep" / f"{number}.jpg")
    (folder / "Rana alba" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "not in a folder.jpg").write_bytes(b"")
    (folder / "Rana alba" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = read_folder(ws, folder, {"rana alba": 2})
    photographs = found.photographs
    assert photographs.image_id.tolist() == [f"{name}/deep/{n}.jpg" for name in ("NOVA", "Rana alba") for n in range(3)]
    assert photographs.target.tolist() == [-1] * 3 + [2] * 3
    assert (sum(found.refused.values()), found.unknown) == (1, ["NOVA"])
    np.testing.assert_allclose(np.linalg.norm(photographs.unit.astype(np.float32), axis=1), 1, atol=2e-3)
    assert np.isfinite(photographs.logits(np.arange(6))).all()
    with pytest.raises(DataError, match=r"--photos .*none of its 7 files is a photograph of a species of the engine"):
        read_folder(ws, folder, {"rana rubra": 1})


def test_a_name_in_an_old_encoding_is_read(tmp_path: Path) -> None:
    ws = write_root(tmp_path / "root", ["train"])
    write_model(ws)
    folder = tmp_path / "photos" / os.fsdecode(b"Rana na\xefva")
    folder.mkdir(parents=True)
    photo(KEYS[0], 0).save(folder / "1.jpg")
    found = read_folder(ws, tmp_path / "photos", {"rana naïva": 1})
    assert (found.photographs.image_id.tolist(), found.photographs.target.tolist()) == (["Rana naïva/1.jpg"], [1])
    check_folder(tmp_path / "photos", {"rana naïva": 1})


def test_a_folder_without_a_species_of_the_engine_is_an_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "photos" / "Nova").mkdir(parents=True)
    (tmp_path / "photos" / "Nova" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of its 1 files is a photograph of a species of the engine"):
        check_folder(tmp_path / "photos", {"rana alba": 0})


def test_a_changed_folder_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"1")
    before = digest_folder(tmp_path)
    assert digest_folder(tmp_path) == before
    (tmp_path / "a" / "2.jpg").write_bytes(b"2")
    assert digest_folder(tmp_path) != before
