import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from aitax_ray import workspace
from aitax_ray.dataset.cite import PLACEHOLDER, cite
from aitax_ray.errors import DataError, MissingArtifactError, SettingsError

from .test_attribution import PHOTOS, QUERY, A, B, make_root, photo

URL = "https://zenodo.org/records/1"


@pytest.fixture
def root(tmp_path: Path) -> str:
    return make_root(str(tmp_path / "my root")).root


def body_of(root: str, **settings: Any) -> dict[str, Any]:
    return dict(json.loads(cite(root, as_json=True, **settings)))


def test_the_body_has_the_fields_of_gbifs_derived_datasets(root: str) -> None:
    body = body_of(root, source_url=URL)
    assert list(body) == ["title", "description", "sourceUrl", "originalDownloadDOI", "relatedDatasets"]
    assert body["title"] == "Photographs of 2 species from GBIF download 10.15468/dl.x"
    assert body["sourceUrl"] == URL
    assert body["originalDownloadDOI"] == "10.15468/dl.x"
    assert body["relatedDatasets"] == {A: 2, B: 1}
    assert "5 photographs of 2 species, of 3 occurrence records" in body["description"]
    assert "train (3), val (1), test (1)" in body["description"]


def test_the_title_is_ones_own_when_it_is_given(root: str) -> None:
    assert body_of(root, title="Frogs ≥ 2")["title"] == "Frogs ≥ 2"


@pytest.mark.parametrize(
    ("query", "doi", "origin"),
    [
        ({"source": "search", "doi": ""}, None, "a GBIF occurrence search"),
        ({"source": "/home/ann/frogs", "doi": ""}, None, "GBIF"),
        ({"source": "a.zip", "doi": "10.15468/abc123"}, None, "GBIF download 10.15468/abc123"),
        ({"source": "x", "doi": "10.15468/dl.y"}, "10.15468/dl.y", "GBIF download 10.15468/dl.y"),
    ],
)
def test_only_the_doi_of_a_download_is_its_origin(
    tmp_path: Path, query: dict[str, Any], doi: str | None, origin: str
) -> None:
    body = body_of(make_root(str(tmp_path), query=query).root)
    assert body.get("originalDownloadDOI") == doi
    assert body["title"] == f"Photographs of 2 species from {origin}"
    assert "/home" not in json.dumps(body)


def test_the_text_cites_and_shows_what_to_send_without_a_password(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBIF_PWD", "secret")
    text = cite(root, source_url=URL)
    assert "    GBIF.org GBIF Occurrence Download\n" in text
    assert text.index("Occurrence Download") < text.index('"relatedDatasets"') < text.index("curl")
    assert "secret" not in text
    lines = [shlex.split(line, comments=False) for line in text.splitlines() if line.startswith("    curl ")]
    assert [line[1] for line in lines] == ["--netrc", "--user"]
    for line in lines:
        assert line[-3:] == ["--data-binary", "@derived_dataset.json", "https://api.gbif.org/v1/derivedDataset"]
    make = shlex.split(next(line for line in text.splitlines() if line.startswith("    aitax cite")))
    assert make == ["aitax", "cite", "--root", root, "--source-url", URL, "--json", ">", "derived_dataset.json"]
    shown = re.search(r"^\{.*?^\}", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert json.loads(shown[0]) == body_of(root, source_url=URL)


def test_without_a_url_gbif_would_refuse_the_placeholder(root: str, caplog: pytest.LogCaptureFixture) -> None:
    assert body_of(root)["sourceUrl"] == PLACEHOLDER
    assert not PLACEHOLDER.startswith("http")
    assert " " in PLACEHOLDER  # of no URI
    assert "give --source-url" in caplog.text
    assert "GBIF needs a sourceUrl: give --source-url" in cite(root)
    assert "GBIF needs a sourceUrl" not in cite(root, source_url=URL)


@pytest.mark.parametrize("url", ["zenodo.org/1", "ftp://x.org/1", "https://x y.org", "https://", "file:///tmp"])
def test_a_source_that_is_no_http_address_is_refused(root: str, url: str) -> None:
    with pytest.raises(SettingsError, match="--source-url"):
        cite(root, source_url=url)


def test_the_citations_of_the_datasets_come_when_asked(tmp_path: Path) -> None:
    root = make_root(str(tmp_path), query=QUERY | {"dataset_citations": ["Ann (2020) Frogs", "Bob (2021) Toads"]}).root
    assert "Frogs" not in cite(root)
    assert "    Ann (2020) Frogs\n\n    Bob (2021) Toads\n" in cite(root, datasets=True)


def test_datasets_without_a_known_citation_are_linked(root: str) -> None:
    assert f"    https://www.gbif.org/dataset/{A}\n    https://www.gbif.org/dataset/{B}\n" in cite(root, datasets=True)


def test_there_is_nothing_to_register_of_ones_own_photographs(tmp_path: Path) -> None:
    root = make_root(str(tmp_path), [photo("file:///1.jpg", "photo-1", dataset_key="")]).root
    assert "There is nothing to register: no photograph" in cite(root)
    with pytest.raises(DataError, match="nothing to register"):
        cite(root, as_json=True)


def test_keys_that_are_none_of_gbif_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_root(str(tmp_path), [*PHOTOS, photo("http://x.org/6", "6", dataset_key="my frogs")]).root
    assert body_of(root, source_url=URL)["relatedDatasets"] == {A: 2, B: 1}
    assert "1 of 3 dataset keys are none of GBIF's, such as my frogs" in caplog.text


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match="aitax split"):
        cite(str(tmp_path))
    ws = make_root(str(tmp_path))
    ws.storage.delete(workspace.RELATED_DATASETS)
    with pytest.raises(DataError, match=r"related_datasets\.json is not there: run `aitax split"):
        cite(str(tmp_path))
