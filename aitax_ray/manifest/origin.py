"""Where the data come from, and how to cite them: what archive/query.json keeps."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aitax_ray.darwin_core.citation import Citation


@dataclass(frozen=True)
class Origin:
    """Where the data come from: what a publication that uses them has to tell. "" and 0 where it is not known."""

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
    archive: str = ""  # path under the root, or the local path where it was left
    sha256: str = ""  # of the complete archive
    source_digest: str = ""  # of what was asked for: a URL with its secrets, but without its signature
    beyond_reach: int = 0  # occurrences that GBIF has and its search does not give

    def completed(self, told: Citation) -> "Origin":
        """With what the archive tells of itself, where GBIF did not."""
        doi, created = self.doi or told.doi, self.created or told.date
        return replace(
            self,
            doi=doi,
            download_key=self.download_key or told.download_key,
            created=created,
            dataset_citations=told.datasets,
            citation=cite(doi, created) or self.citation or "\n".join(told.datasets),
        )


def cite_search(date: str) -> str:
    """The citation of what was searched for page by page on that day."""
    return f"GBIF.org ({date}) occurrence search; it has no DOI: a download, or a derived dataset, gives it one"


def cite(doi: str, created: str) -> str:
    """The citation of a download as GBIF words it, "" without a DOI."""
    try:
        day = datetime.fromisoformat(created)
        date = f" ({day.day} {day:%B %Y})"
    except ValueError:
        date = ""
    return f"GBIF.org{date} GBIF Occurrence Download https://doi.org/{doi}" if doi else ""
