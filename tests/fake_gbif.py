"""A small fake of GBIF's API for the tests. Its answers have the shape of the real ones.

    gbif.download("0000001-...", archive)      a download, by key and DOI, in any status
    gbif.photographed(...)                     occurrences for the search
    gbif.taxon("11", "Rana alba")              a taxon for the matching of names
    gbif.accounts["ann"] = "secret"            who may ask for downloads

The `server` fixture answers with it on every path that has no answer of its own.
"""

import base64
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

BACKBONE = "d7dddbf4-2cf0-4f39-9b2a-bb099caae36c"
COL = "7ddf754f-d193-4cc9-b351-99906754a03b"
KEY, DOI = "0000001-000000000000001", "10.15468/dl.frogs1"
DATASETS = ("50c9509d-22c7-4a22-a47d-8c48425ef4a7", "963a6b96-4d22-4428-86e4-afee52cf4a8e")
FACETS = {"year": "year", "month": "month", "country": "countryCode", "datasetKey": "datasetKey"}
FACETS |= {"basisOfRecord": "basisOfRecord"}
Json = dict[str, Any]


class Asked(NamedTuple):
    """A request that the server received; header names in lower case."""

    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)


@dataclass
class Answer:
    """An answer of the server. `stop_after` closes the connection after that many bytes of the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = False
    stop_after: int | None = None


def as_json(body: object, status: int = 200) -> Answer:
    return Answer(json.dumps(body).encode(), status, {"Content-Type": "application/json"})


def plain(text: str, status: int) -> Answer:
    return Answer(text.encode(), status, {"Content-Type": "text/plain"})


def too_many(retry_after: str | None = "3") -> Answer:
    answer = as_json(["To download GBIF occurrence data in bulk, please request a download ..."], 429)
    answer.headers |= {"Retry-After": retry_after} if retry_after else {}
    return answer


@dataclass
class Gbif:
    """The content of this GBIF."""

    url: str
    downloads: dict[str, Json] = field(
        default_factory=dict
    )  # by key; each status of the list is given once, the last one for ever
    archives: dict[str, bytes] = field(default_factory=dict)  # by key
    made: bytes = b""  # the archive of every download that is requested
    accounts: dict[str, str] = field(default_factory=dict)
    names: dict[str, Json] = field(default_factory=dict)  # name in lower case to the answer of a match
    takes_lists: bool = True
    vernacular: dict[str, list[Json]] = field(default_factory=dict)
    occurrences: list[Json] = field(default_factory=list)
    max_offset: int = 100_000

    def download(self, key: str = KEY, archive: bytes = b"", statuses: tuple[str, ...] = (), **more: Any) -> Json:
        """Add a download, with the record that GBIF keeps of it."""
        request = {
            "predicate": {"type": "equals", "key": "TAXON_KEY", "value": "1", "matchCase": False, "checklistKey": COL},
            "sendNotification": False,
            "format": "DWCA",
            "type": "OCCURRENCE",
            "verbatimExtensions": [],
        }
        self.downloads[key] = {
            "key": key,
            "doi": DOI if key == KEY else f"10.15468/dl.{key[:6]}",
            "license": "http://creativecommons.org/licenses/by-nc/4.0/legalcode",
            "request": request | {"checklistKey": COL},
            "created": "2026-07-16T16:47:40.736+00:00",
            "modified": "2026-07-16T16:48:30.842+00:00",
            "eraseAfter": "2027-01-16T16:47:40.654+00:00",
            "status": list(statuses) or ["SUCCEEDED"],
            "downloadLink": f"{self.url}/v1/occurrence/download/request/{key}.zip",
            "size": len(archive),
            "totalRecords": 3,
            "numberDatasets": 1,
        } | more
        self.archives[key] = archive
        return self.downloads[key]

    def taxon(self, key: str, name: str, *, rank: str = "SPECIES", match: str = "EXACT", **more: Any) -> None:
        """Add a name: `accepted` is the taxon it is a synonym of, `species` the (key, name) in its classification."""
        accepted, species = more.pop("accepted", None), more.pop("species", None)
        usage = {"key": key, "name": f"{name} L.", "canonicalName": name, "authorship": "L.", "rank": rank}
        line = [{"key": "1", "name": "Animalia", "rank": "KINGDOM"}, {"key": "2", "name": "Rana", "rank": "GENUS"}]
        line.append(dict(zip(("key", "name"), species or (key, name), strict=True)) | {"rank": "SPECIES"})
        answer: Json = {"usage": usage | {"status": "SYNONYM" if accepted else "ACCEPTED"}}
        if accepted:
            answer["acceptedUsage"] = accepted
        self.names[name.lower()] = answer | {
            "classification": line,
            "diagnostics": {"matchType": match, "confidence": 99, "timeTaken": 5, "timings": {"sciNameMatch": 5}},
            "synonym": bool(accepted),
            **more,
        }

    def photographed(self, number: int, taxon_key: int = 11, name: str = "Rana alba", **more: Any) -> list[Json]:
        """Add occurrences of a species, each with a photograph."""
        new = [self._occurrence(len(self.occurrences) + i + 1, taxon_key, name) | more for i in range(number)]
        self.occurrences += new
        return new

    def _occurrence(self, key: int, taxon_key: int, name: str) -> Json:
        usage = {"key": f"C{taxon_key}", "name": f"{name} L.", "rank": "SPECIES", "authorship": "L."}
        line = [("DOM", "Eukaryota", "DOMAIN"), ("N", "Animalia", "KINGDOM"), ("G2", "Rana", "GENUS")]
        ranks = [{"key": k, "name": n, "rank": r} for k, n, r in [*line, (f"C{taxon_key}", name, "SPECIES")]]
        return {
            "key": key,
            "datasetKey": DATASETS[key % 2],
            "basisOfRecord": "HUMAN_OBSERVATION",
            "taxonKey": taxon_key,
            "kingdomKey": 1,
            "genusKey": 2,
            "speciesKey": taxon_key,
            "acceptedTaxonKey": taxon_key,
            "scientificName": f"{name} L.",
            "acceptedScientificName": f"{name} L.",
            "kingdom": "Animalia",
            "genus": "Rana",
            "species": name,
            "taxonRank": "SPECIES",
            "decimalLatitude": 56.278502,
            "year": 2020 + key % 3,
            "month": 1 + key % 12,
            "eventDate": "2024-07-19",
            "media": [
                {"type": "StillImage", "format": "image/jpeg", "identifier": f"http://photos.example/{key}.jpg"}
                | {"license": "http://creativecommons.org/licenses/by/4.0/", "creator": "Ann"}
            ],
            "facts": [],
            "recordedBy": "Ann",
            "countryCode": "DK",
            "country": "Denmark",
            "gbifID": str(key),
            "classifications": {COL: {"usage": usage, "acceptedUsage": usage, "classification": ranks, "issues": []}},
        }

    def answer(self, asked: Asked) -> Answer:
        """Answer a request as GBIF does."""
        path = urlsplit(asked.path).path
        download = "/v1/occurrence/download/"
        if asked.method == "POST":
            if path == f"{download}request":
                return self._request(asked)
            if path == "/v2/species/match" and self.takes_lists:
                return as_json([self._match(entry["scientificName"]) for entry in asked.json])
            return Answer(status=405)
        if path.startswith(f"{download}request/"):
            return self._archive(path.removeprefix(f"{download}request/").removesuffix(".zip"))
        if path.startswith(download):
            return self._record(path.removeprefix(download))
        if path == "/v2/species/match":
            return as_json(self._match(asked.query["scientificName"][0]))
        if path.startswith("/v1/species/") and path.endswith("/vernacularNames"):
            return self._vernacular(path.split("/")[3])
        return self._search(asked.query) if path == "/v1/occurrence/search" else Answer(b"not here", 404)

    def _record(self, name: str) -> Answer:
        found = next((r for key, r in self.downloads.items() if name in (key, r.get("doi"))), None)
        if found is None:
            return Answer(status=404)
        statuses = found["status"]
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        # While it is prepared a download has neither DOI nor size.
        waiting = {"license": "unspecified", "size": 0} if status in ("PREPARING", "RUNNING") else {}
        return as_json({k: v for k, v in found.items() if k != "doi" or not waiting} | {"status": status} | waiting)

    def _archive(self, key: str) -> Answer:
        if self.downloads.get(key, {}).get("status", [""])[0] != "SUCCEEDED":
            return as_json({"message": "erased"}, 404)
        return Answer(self.archives[key], ranges=True)

    def _request(self, asked: Asked) -> Answer:
        scheme, _, code = asked.headers.get("authorization", "").partition(" ")
        user, _, password = base64.b64decode(code).decode().partition(":")
        if scheme != "Basic" or self.accounts.get(user) != password:
            return Answer(status=401)
        if not asked.json.get("predicate"):
            return plain("The predicate may not be null", 400)
        key = f"{len(self.downloads) + 1:07}-000000000000009"
        self.download(key, self.made, ("PREPARING", "RUNNING", "SUCCEEDED"), request=asked.json)
        return Answer(key.encode(), 201, {"Content-Type": "application/json"})

    def _match(self, name: str) -> Json:
        none = {"matchType": "NONE", "issues": [], "confidence": 100, "timeTaken": 20}
        return self.names.get(name.lower(), {"diagnostics": none, "synonym": False})

    def _vernacular(self, key: str) -> Answer:
        if not key.isdigit():
            return plain("not a number", 400)
        rows = [{"taxonKey": int(key), "source": "Catalogue of Life"} | row for row in self.vernacular.get(key, [])]
        return as_json({"offset": 0, "limit": 100, "endOfRecords": True, "results": rows})

    def _search(self, query: dict[str, list[str]]) -> Answer:
        limit, offset = min(int(query.get("limit", ["20"])[0]), 300), int(query.get("offset", ["0"])[0])
        if offset + limit > self.max_offset:
            return plain(f"Max offset of {self.max_offset} exceeded: {offset} + {limit}", 400)
        found = [o for o in self.occurrences if self._is_asked_for(o, query)]
        facets = []
        for name in query.get("facet", []):
            counts = Counter(str(o[FACETS[name]]) for o in found if o.get(FACETS[name]) is not None)
            shown = counts.most_common(int(query.get("facetLimit", ["10"])[0]))
            field_name = "".join(f"_{c}" if c.isupper() else c for c in name).upper()
            facets.append({"field": field_name, "counts": [{"name": n, "count": c} for n, c in shown]})
        page = found[offset : offset + limit]
        end = offset + limit >= len(found)
        counts = {"offset": offset, "limit": limit, "endOfRecords": end, "count": len(found)}
        return as_json(counts | {"results": page, "facets": facets})

    @staticmethod
    def _is_asked_for(occurrence: Json, query: dict[str, list[str]]) -> bool:
        named = occurrence["classifications"].get(query.get("checklistKey", [BACKBONE])[0])
        keys = (
            [taxon["key"] for taxon in named["classification"]]
            if named
            else [str(value) for name, value in occurrence.items() if name.endswith("Key")]
        )
        values = {name: str(occurrence.get(term)) for name, term in FACETS.items()}
        return (
            set(query.get("taxonKey", keys)) & set(keys) != set()
            and set(query.get("mediaType", [])) <= {m["type"] for m in occurrence["media"]}
            and all(values[name] in query.get(name, [values[name]]) for name in FACETS)
        )
