from pathlib import Path

import pytest

from aitax_ray.gbif.archive import Citation
from aitax_ray.gbif.source import Query, cite, local_path


@pytest.mark.parametrize(
    ("created", "date"),
    [("2020-07-06T16:47:40.736+00:00", " (6 July 2020)"), ("2020-07-16", " (16 July 2020)"), ("", ""), ("today", "")],
)
def test_a_download_is_cited_as_gbif_words_it(created: str, date: str) -> None:
    assert cite("10.15468/dl.x", created) == f"GBIF.org{date} GBIF Occurrence Download https://doi.org/10.15468/dl.x"
    assert cite("", created) == ""


def test_what_gbif_tells_goes_before_what_the_archive_tells() -> None:
    told = Citation("10.15468/dl.other", "key-2", "2019-01-01", ("The frog list.",))
    known = Query(source="x", doi="10.15468/dl.x", download_key="key-1", created="2020-07-16").completed(told)
    assert (known.doi, known.download_key, known.created) == ("10.15468/dl.x", "key-1", "2020-07-16")
    unknown = Query(source="x").completed(told)
    assert (unknown.doi, unknown.download_key, unknown.created) == ("10.15468/dl.other", "key-2", "2019-01-01")
    assert unknown.dataset_citations == ("The frog list.",)


def test_paths_and_file_urls_are_local_and_other_urls_are_not() -> None:
    assert local_path("frogs.zip") == Path("frogs.zip")
    assert local_path("~/frogs.zip") == Path.home() / "frogs.zip"
    assert local_path("file:///data/the%20frogs.zip") == Path("/data/the frogs.zip")
    assert local_path("https://example.org/frogs.zip") is None
    assert local_path("s3://bucket/frogs.zip") is None
