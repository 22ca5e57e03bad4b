import errno
from pathlib import Path

import pytest

from aitax_ray.dataset.output import MARK, begin, explain_write_errors, open_atomically, refuse_others
from aitax_ray.errors import StorageError

WANTED = {"to": "csv", "splits": ["test"]}


def test_a_folder_is_begun_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    assert begin(out, WANTED).to_list() == [MARK]
    (out / "sub").mkdir()
    (out / "sub" / "x.jpg").touch()
    (out / "sub" / ".x.jpg.aitax-part").touch()  # what a run that was killed was writing
    (out / ".DS_Store").touch()
    assert sorted(begin(out, WANTED)) == [MARK, "sub/x.jpg"]
    assert not (out / "sub" / ".x.jpg.aitax-part").exists()


def test_what_is_anothers_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "one", WANTED)
    with pytest.raises(StorageError, match="an export that differs in to"):
        begin(tmp_path / "one", WANTED | {"to": "imagefolder"})
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.tex").touch()
    with pytest.raises(StorageError, match=r"files of another origin, such as thesis.tex"):
        begin(tmp_path / "two", WANTED)
    with pytest.raises(StorageError, match="is a file"):
        begin(tmp_path / "two" / "thesis.tex", WANTED)
    there = begin(tmp_path / "one", WANTED)
    refuse_others(tmp_path / "one", there, set())
    (tmp_path / "one" / "more.jpg").touch()
    with pytest.raises(StorageError, match=r"1 files that the export did not write, such as more.jpg"):
        refuse_others(tmp_path / "one", begin(tmp_path / "one", WANTED), {"other.jpg"})


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail() -> None:
        with open_atomically(tmp_path / "x") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with open_atomically(tmp_path / "x") as file:
        file.write(b"all")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"all"]


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "a disk that is full: make room"), (errno.EACCES, "mend that")]
)
def test_what_the_disk_says_is_told_with_the_remedy(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(StorageError, match=f"{words}, and the same command goes on"), explain_write_errors(tmp_path):
        raise OSError(code, "why")
