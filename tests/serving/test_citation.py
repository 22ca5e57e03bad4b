"""serving.citation: what to cite for an answer."""

import re
from typing import Any

import pytest

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.info import EngineInfo
from aitax_ray.serving.citation import list_references, to_bibtex
from tests.engines import write_small_engine


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> EngineInfo:
    return open_engine(str(write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1"))).info


def changed(info: EngineInfo, **changes: Any) -> EngineInfo:
    return info.model_copy(update={"versions": {"aitax-ray": "0.1.0"}} | changes)


def test_the_data_the_engine_and_the_program_are_cited(info: EngineInfo) -> None:
    citation = "GBIF.org (12 March 2024) GBIF Occurrence Download https://doi.org/10.15468/dl.colour"
    data, engine, program = list_references(changed(info, citation=citation), "https://frogs.example/")
    assert (data.text, data.link) == (citation, "https://doi.org/10.15468/dl.colour")
    assert engine.text == (
        "Species identification engine colours-1: 3 species, 12 photographs, made with aitax_ray 0.1.0. "
        "https://frogs.example/"
    )
    assert program.text.startswith("aitax_ray 0.1.0:")
    assert data.bibtex() == (
        "@misc{data_dl_colour,\n  author = {{GBIF.org}},\n  title = {GBIF Occurrence Download},\n  year = {2024},\n"
        "  doi = {10.15468/dl.colour},\n"
        "  note = {GBIF.org (12 March 2024) GBIF Occurrence Download https://doi.org/10.15468/dl.colour}\n}\n"
    )


def test_data_of_an_unknown_source_are_not_cited(info: EngineInfo) -> None:
    assert len(list_references(changed(info, doi=None))) == 2
    assert list_references(info)[0].text == "GBIF.org. GBIF Occurrence Download. https://doi.org/10.15468/dl.colour"
    assert list_references(changed(info, doi="10.5281/zenodo.1"))[0].text.startswith("Occurrences and photographs. ")


def test_whatever_a_text_holds_the_bibtex_stays_whole(info: EngineInfo) -> None:
    hostile = changed(info, citation="50 % of {A & B}\\input{x}\n$_#~^", doi="10.1/a_b}{c", version="v_1 {x}")
    text = to_bibtex(hostile, "https://x.example/{}")
    assert re.findall(r"^@misc\{([A-Za-z0-9_]+),$", text, re.MULTILINE) == ["data_a_b_c", "engine_v_1_x", "aitax_ray"]
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert r"50 \% of \{A \& B\}" in text
    assert "\\input{" not in text
    assert "doi = {10.1/a_bc}" in text
