import pytest

from aitax_ray.darwin_core.citation import Citation
from aitax_ray.manifest.origin import Origin, cite, cite_search


@pytest.mark.parametrize(
    ("created", "date"),
    [("2020-07-06T16:47:40.736+00:00", " (6 July 2020)"), ("2020-07-16", " (16 July 2020)"), ("", ""), ("today", "")],
)
def test_a_download_is_cited_as_gbif_words_it(created: str, date: str) -> None:
    assert cite("10.15468/dl.x", created) == f"GBIF.org{date} GBIF Occurrence Download https://doi.org/10.15468/dl.x"
    assert cite("", created) == ""


def test_what_gbif_says_comes_before_what_the_archive_says() -> None:
    cited = Citation("10.15468/dl.other", "key-2", "2019-01-01", ("The frog list.",))
    known = Origin(source="x", doi="10.15468/dl.x", download_key="key-1", created="2020-07-16").complete(cited)
    assert (known.doi, known.download_key, known.created) == ("10.15468/dl.x", "key-1", "2020-07-16")
    unknown = Origin(source="x").complete(cited)
    assert (unknown.doi, unknown.download_key, unknown.created) == ("10.15468/dl.other", "key-2", "2019-01-01")
    assert unknown.dataset_citations == ("The frog list.",)


def test_without_doi_the_datasets_are_cited() -> None:
    assert Origin(source="x").complete(Citation(datasets=("A.", "B."))).citation == "A.\nB."


def test_the_citation_of_a_search_stays() -> None:
    cited = cite_search("2026-07-16")
    assert "GBIF.org (2026-07-16) occurrence search" in cited
    assert Origin(source="search", citation=cited).complete(Citation()).citation == cited
