"""engine.documents: the pages of an engine show no photograph, and figures of its species."""

import logging
from pathlib import Path

import pytest

from aitax_ray import workspace
from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.copies import copy_engine
from aitax_ray.engine.documents import (
    DATA_CARD,
    MODEL_CARD,
    PER_SPECIES,
    REPORT,
    SpeciesFigures,
    collect_documents,
    read_figures,
)
from aitax_ray.engine.info import read_current
from aitax_ray.errors import EngineError
from aitax_ray.workspace import Workspace
from tests.engines import describe_again, write_small_engine


def test_a_published_engine_and_its_copy_have_the_pages_and_the_figures(published: Workspace, tmp_path: Path) -> None:
    engine = open_engine(published.root)
    pages = {name: (engine.read_file(name) or b"").decode() for name in (DATA_CARD, REPORT, MODEL_CARD)}
    assert "identified by;" in published.storage.read_bytes(workspace.DATA_CARD).decode()
    for name in (DATA_CARD, REPORT):
        assert "data:image/png;base64," in pages[name]
        assert [text for text in ("data:image/jpeg", "<!--", "identified by;") if text in pages[name]] == []
        assert pages[name].rstrip().endswith("</html>")
    assert pages[MODEL_CARD].startswith("# Model card")
    assert engine.info.caveats == published.storage.read_json(workspace.DATA_CARD_JSON)["caveats"] != []
    figures = read_figures(engine)
    assert list(figures) == engine.info.classes
    assert all(figure.num_train > 0 for figure in figures.values())
    copy_engine(published.storage, f"engines/{read_current(published.storage, 'engines')}", str(tmp_path / "copy"))
    copied = open_engine(str(tmp_path / "copy"))
    assert {name: (copied.read_file(name) or b"").decode() for name in pages} == pages
    (copied.folder / REPORT).write_bytes(b"x" * len(pages[REPORT].encode()))
    with pytest.raises(EngineError, match=r"report\.html has changed"):
        open_engine(str(tmp_path / "copy")).read_file(REPORT)


def test_what_is_private_and_pages_of_an_earlier_version_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ws, photograph = Workspace(str(tmp_path)), b'<img src="data:image/jpeg;base64,AAAA">'
    ws.storage.write_bytes(
        workspace.DATA_CARD, b"<p>a<!--private-->" + photograph + b"\n<!--/private-->b<!--private-->c"
    )
    ws.storage.write_bytes(workspace.REPORT, photograph)
    with caplog.at_level(logging.WARNING):
        found = collect_documents(ws)
    assert found == {DATA_CARD: b"<p>ab<!--private-->c"}
    assert "has no report.html, because an earlier version made it: run `aitax evaluate" in caplog.text


def test_an_engine_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    small = write_small_engine(tmp_path / "small")
    figures = read_figures(open_engine(str(small)))
    assert figures == {"11": SpeciesFigures(10, 4, 0.75), "22": SpeciesFigures(20, 0, None)}
    for name in (DATA_CARD, REPORT, MODEL_CARD, PER_SPECIES):
        (small / name).unlink()
    rest = [str(path.relative_to(small)) for path in small.rglob("*") if path.is_file()]
    describe_again(small, files=dict.fromkeys(name for name in rest if name != "engine.json"))
    old = open_engine(str(small))
    old.verify()
    assert read_figures(old) == {}
    assert old.read_file(REPORT) is None
