from pathlib import Path

import pytest

from aitax_ray.darwin_core.citation import Citation, read_download_citation, read_publisher_citation
from aitax_ray.darwin_core.unpack import open_files
from tests.gbif_download import archive_files, write_folder

EML = """
<eml:eml xmlns:eml="eml://x" packageId="10.1234/own"><dataset>
  <alternateIdentifier>https://ipt.example/r?r=frogs</alternateIdentifier>
  <alternateIdentifier>https://doi.org/10.1234/frogs</alternateIdentifier>
  <title>Frogs of
    the pond</title>
  <creator><individualName><givenName>Ann</givenName><surName>Lee</surName></individualName></creator>
  <creator><organizationName>Museum of Ponds</organizationName></creator>
  <pubDate>2019-05-01</pubDate>
</dataset>{more}</eml:eml>"""


def read(folder: Path, files: dict[str, str | bytes], metadata: str = "eml.xml") -> Citation:
    (folder / "scratch").mkdir()
    with open_files(write_folder(folder / "in", files), folder / "scratch") as opened:
        return read_publisher_citation(opened, metadata)


def test_a_download_of_gbif_is_told_by_its_doi_and_its_datasets(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with open_files(write_folder(tmp_path / "in", archive_files([], [])), tmp_path / "scratch") as files:
        found = read_download_citation(files)
    assert found == Citation("10.15468/dl.frogs1", "0000001-000000000000001", "2026-07-16", ("The frog list.",))


def test_a_publishers_dataset_is_cited_by_creators_year_title_and_doi(tmp_path: Path) -> None:
    cited = "Ann Lee, Museum of Ponds (2019). Frogs of the pond. https://doi.org/10.1234/frogs"
    assert read(tmp_path, {"about.xml": EML.format(more="")}, "about.xml") == Citation(
        date="2019-05-01", datasets=(cited,)
    )


def test_the_citation_that_a_publisher_gives_counts(tmp_path: Path) -> None:
    more = "<additionalMetadata><metadata><gbif><citation>Lee: Frogs.</citation></gbif></metadata></additionalMetadata>"
    assert read(tmp_path, {"eml.xml": EML.format(more=more)}).datasets == ("Lee: Frogs.",)


@pytest.mark.parametrize(
    ("files", "datasets"),
    [
        ({"CITATION.txt": "iDigBio (2015),\n\n916 records\n"}, ("iDigBio (2015), 916 records",)),
        ({"eml.xml": "<eml", "CITATION.txt": "Frogs."}, ("Frogs.",)),
        ({"eml.xml": "<eml/>"}, ()),
        ({}, ()),
    ],
)
def test_without_metadata_of_use_a_text_may_tell(
    tmp_path: Path, files: dict[str, str | bytes], datasets: tuple[str, ...]
) -> None:
    assert read(tmp_path, files | {"meta.xml": ""}) == Citation(datasets=datasets)
