import io
import tarfile
from pathlib import Path

import polars as pl

from aitax_ray.dataset.tars import collect, read_spool, write_tar


def test_what_is_collected_comes_back_by_tar_and_photograph(tmp_path: Path) -> None:
    rows = [("a.tar", "1" * 40, b"one"), ("b.tar", "short", b""), ("a.tar", "3", b"x" * 100_000)]
    for row in rows:
        collect(tmp_path, pl.DataFrame([row], ["tar", "image_id", "jpeg"], orient="row"))
    assert read_spool(tmp_path / "a.tar") == {"1" * 40: b"one", "3": b"x" * 100_000}
    assert read_spool(tmp_path / "b.tar") == {"short": b""}


def test_a_tar_has_a_sample_a_photograph_in_order_and_nothing_of_the_machine() -> None:
    rows = pl.DataFrame({"image_id": ["b", "a"], "class_index": [7, 0], "creator": ["Zo\u00eb", ""]})
    file, again = io.BytesIO(), io.BytesIO()
    write_tar(file, {"a": b"A", "b": b"B"}, rows)
    write_tar(again, {"b": b"B", "a": b"A"}, rows.reverse())
    assert file.getvalue() == again.getvalue()
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
        assert [(member.name, member.mtime, member.uname) for member in tar] == [
            (f"{name}.{ending}", 0, "") for name in "ab" for ending in ("jpg", "cls", "json")
        ]
        assert tar.extractfile("b.cls").read() == b"7"  # type: ignore[union-attr]
        assert "Zo\u00eb" in tar.extractfile("b.json").read().decode()  # type: ignore[union-attr]
