"""Where the data come from and how to cite them: the content of archive/query.json."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aitax_ray.darwin_core.citation import Citation


@dataclass(frozen=True)
class Origin:
    """Where the data come from: what a publication must state. Unknown texts are "", unknown numbers 0."""

    source: str  # the DOI, key, path or URL (without its secrets) that was asked for
    doi: str = ""
    download_key: str = ""
    checklist_key: str = ""
    predicate: dict[str, Any] | None = None
    license: str = ""
    created: str = ""  # ISO 8601
    total_records: int = 0
    citation: str = ""
    dataset_citations: tuple[str, ...] = ()
    archive: str = ""  # path under the root, or the local path that was given
    sha256: str = ""  # of the complete archive
    source_digest: str = ""  # of what was asked for: a URL with its secrets, but without its signature
    beyond_reach: int = 0  # occurrences that GBIF has and its search did not give

    def complete(self, archive: Citation) -> "Origin":
        """Fill in what GBIF did not say with what the archive says of itself."""
        doi, created = self.doi or archive.doi, self.created or archive.date
        return replace(
            self,
            doi=doi,
            download_key=self.download_key or archive.download_key,
            created=created,
            dataset_citations=archive.datasets,
            citation=cite(doi, created) or self.citation or "\n".join(archive.datasets),
        )


def cite_search(date: str) -> str:
    """Cite the result of a search on that day."""
    return f"GBIF.org ({date}) occurrence search; it has no DOI: a download, or a derived dataset, gives it one"


def cite(doi: str, created: str) -> str:
    """Cite a download in GBIF's words; "" without a DOI."""
    try:
        day = datetime.fromisoformat(created)
        date = f" ({day.day} {day:%B %Y})"
    except ValueError:
        date = ""
    return f"GBIF.org{date} GBIF Occurrence Download https://doi.org/{doi}" if doi else ""
