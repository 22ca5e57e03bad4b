import hashlib
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.darwin_core import unpack
from aitax_ray.darwin_core.unpack import digest, open_files
from aitax_ray.errors import ArchiveError
from tests.archives import mark_as_encrypted
from tests.gbif_download import write_folder, write_zip


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def make_tar(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "in", {"meta.xml": "<a/>", "sub/x.txt": "x"})
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        tar.add(folder, arcname=".")
    return tmp_path / "a.tgz"


def test_zip_tar_and_folder_give_the_same_files(tmp_path: Path, scratch: Path) -> None:
    tar = make_tar(tmp_path)
    zipped = write_zip(tmp_path / "a.zip", {"meta.xml": "<a/>", "sub/x.txt": "x"})
    for path in (tar, zipped, tmp_path / "in"):
        with open_files(path, scratch) as files:
            assert files.sizes == {"meta.xml": 4, "sub/x.txt": 1}
            assert files.get("sub/x.txt").read_text() == "x"


def test_backslashes_part_folders(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"sub\\meta.xml": "<a/>"})
    with open_files(path, scratch) as files:
        assert files.find("meta.xml") == "sub/meta.xml"


def test_the_file_nearest_to_the_top_is_found(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a/b/meta.xml": "", "z/meta.xml": "", "y/other.xml": ""})
    with open_files(path, scratch) as files:
        assert files.find("meta.xml") == "z/meta.xml"
        assert files.find("nothing.xml") is None


def test_capitals_of_a_file_name_do_not_matter(tmp_path: Path, scratch: Path) -> None:
    with open_files(write_zip(tmp_path / "a.zip", {"x/META.XML": "m"}), scratch) as files:
        assert files.find("meta.xml") == "x/META.XML"


def test_no_member_is_written_under_its_own_name(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"../../evil.txt": "!", "/etc/evil.txt": "!"})
    with open_files(path, scratch) as files:
        written = [files.get(name) for name in files.sizes]
    assert all(p.parent == scratch for p in written)
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_link_out_of_a_folder_is_no_file_of_the_archive(tmp_path: Path, scratch: Path) -> None:
    folder = write_folder(tmp_path / "in", {"meta.xml": "<a/>"})
    (folder / "occurrence.txt").symlink_to("/etc/passwd")
    with open_files(folder, scratch) as files:
        assert list(files.sizes) == ["meta.xml"]


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"occurrence.txt": bytes(10_000)})
    with (
        open_files(path, scratch, max_bytes=9_999) as files,
        pytest.raises(ArchiveError, match="unpacks to 10,000 bytes, more than 9,999: refused"),
    ):
        files.get("occurrence.txt")
    assert list(scratch.iterdir()) == []


def test_a_damaged_zip_is_told(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("occurrence.txt", "abcdefgh")
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abcdxfgh"))
    with open_files(path, scratch) as files, pytest.raises(ArchiveError, match=r"is damaged .*: download it again"):
        files.get("occurrence.txt")


def test_a_file_that_is_no_archive_is_told(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ArchiveError, match="is no archive: give the zip of a GBIF download"), open_files(path, scratch):
        pass


def test_an_encrypted_member_is_told(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"meta.xml": "<a/>", "occurrence.txt": "x" * 100})
    mark_as_encrypted(path, "occurrence.txt")
    with open_files(path, scratch) as files:
        assert files.get("meta.xml").read_text() == "<a/>"
        with pytest.raises(ArchiveError, match=r"a\.zip is encrypted: unpack it and give the folder"):
            files.get("occurrence.txt")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_an_archive_that_breaks_off_is_told(tmp_path: Path, scratch: Path, part: float) -> None:
    path = write_zip(tmp_path / "a.zip", {"occurrence.txt": "".join(map(str, range(5000)))})
    for whole in (path, make_tar(tmp_path)):
        data = whole.read_bytes()
        whole.write_bytes(data[: int(len(data) * part)])
        with (
            pytest.raises(ArchiveError, match=r"is (damaged .*: download it again|no archive)"),
            open_files(whole, scratch) as files,
        ):
            files.get("sub/x.txt")


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_of_a_zip_is_unpacked_however_it_is_packed(tmp_path: Path, scratch: Path, packing: int) -> None:
    members = {"é/first.txt": "1", "occurrence.txt": "".join(map(str, range(400_000))), "empty.txt": ""}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with open_files(tmp_path / "a.zip", scratch) as files:
        assert {name: files.get(name).read_text() for name in members} == members


def test_a_zip_that_unpacks_to_far_more_than_it_says_is_told(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"occurrence.txt": "x" * 5_000_000})
    data = path.read_bytes()
    path.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (5_000).to_bytes(4, "little")))
    with open_files(path, scratch) as files, pytest.raises(ArchiveError, match=r"is damaged .*: download it again"):
        files.get("occurrence.txt")
    assert sum(file.stat().st_size for file in scratch.iterdir()) < 2 * 2**20


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a small file exceeds."""
    monkeypatch.setattr(unpack, "RATIO_EXEMPT_BYTES", 100_000)
    monkeypatch.setattr(unpack, "MAX_LINE", 1_500_000)


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("kind", ["a.zip", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_what_unpacks_to_far_more_than_its_bytes_is_refused(tmp_path: Path, scratch: Path, kind: str) -> None:
    folder = write_folder(tmp_path / "in", {"occurrence.txt": "x\n" * 3_000_000})
    if kind == "a.zip":
        write_zip(tmp_path / kind, {"occurrence.txt": "x\n" * 3_000_000})
    else:
        mode: Any = {"a.tgz": "w:gz", "a.tar.bz2": "w:bz2", "a.tar.xz": "w:xz"}[kind]
        with tarfile.open(tmp_path / kind, mode) as tar:
            tar.add(folder, arcname=".")
    with (
        pytest.raises(ArchiveError, match="unpacks to more than 300 times its bytes, as no real table does: refused"),
        open_files(tmp_path / kind, scratch) as files,
    ):
        files.get("occurrence.txt")


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("pack", [write_zip, write_folder])
def test_an_endless_line_is_refused_and_long_ones_are_not(tmp_path: Path, scratch: Path, pack: Any) -> None:
    noise = random.Random(0).randbytes(1_400_000).hex()[:1_400_000]  # which does not pack to next to nothing
    texts = {
        "long.txt": f"{noise}\n{noise}\n{noise}\n",
        "returns.txt": f"a\r{noise}\r{noise}\r",
        "endless.txt": f"a\n{noise}{noise}",
        "mixed.txt": f"a\n{noise}\r{noise}",  # readers that end a row at a line feed see one line
        "late.txt": f"{noise}\r{noise}",
    }
    path = pack(tmp_path / "a", texts)
    with open_files(path, scratch) as files:
        for name in ("long.txt", "returns.txt"):
            assert files.get(name).stat().st_size == len(texts[name])
        for name in ("endless.txt", "mixed.txt", "late.txt"):
            with pytest.raises(ArchiveError, match=rf"{name} in .* has a line of more than 1,500,000 bytes"):
                files.get(name)


def test_a_header_that_is_not_where_the_directory_says_is_told(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.txt": "aaaa", "b.txt": "bbbb"})
    data = path.read_bytes()
    second = data.index(b"PK\3\4", 4)
    path.write_bytes(data[:second] + b"PK\0\0" + data[second + 4 :])
    with open_files(path, scratch) as files, pytest.raises(ArchiveError, match=r"is damaged .*: download it again"):
        files.get("b.txt")


def test_an_error_of_the_reader_stays_what_it_is(tmp_path: Path, scratch: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"meta.xml": ""})
    with pytest.raises(RuntimeError, match="mine"), open_files(path, scratch):
        raise RuntimeError("mine")


def test_the_digest_tells_contents_apart_not_places(tmp_path: Path) -> None:
    one, same = (write_folder(tmp_path / n, {"a": "1", "b/c": "2"}) for n in ("one", "same"))
    other = write_folder(tmp_path / "other", {"a": "1", "b/c": "3"})
    assert digest(one) == digest(same) != digest(other)
    assert digest(one / "a") == digest(same / "a")


@pytest.mark.parametrize("kind", ["xz", "gz", "bz2"])
def test_a_damaged_tar_is_told_however_it_is_packed(tmp_path: Path, scratch: Path, kind: str) -> None:
    content = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(5000))
    (tmp_path / "content").write_bytes(content)
    path = tmp_path / f"a.tar.{kind}"
    with tarfile.open(path, f"w:{kind}") as tar:
        tar.add(tmp_path / "content", "meta.xml")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)

    def read_it() -> None:
        with open_files(path, scratch) as files:
            files.get("meta.xml")

    with pytest.raises(ArchiveError, match=r"is (damaged|no archive)"):
        read_it()


def test_a_zip_packed_by_lzma_that_is_damaged_is_told(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("meta.xml", b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(5000)))
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    with open_files(path, scratch) as files, pytest.raises(ArchiveError, match="is damaged"):
        files.get("meta.xml")
