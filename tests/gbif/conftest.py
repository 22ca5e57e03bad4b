"""A small GBIF of the tests' own: archives in its layout, and a real HTTP server on loopback."""

import contextlib
import functools
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aitax_ray.gbif.client import Client

from .fake import Answer, Asked, Gbif

OCCURRENCE_TERMS = re.findall(
    r"\w+",
    "gbifID license datasetKey decimalLatitude decimalLongitude coordinateUncertaintyInMeters eventDate countryCode "
    "basisOfRecord recordedBy speciesKey species scientificName acceptedScientificName taxonKey acceptedTaxonKey "
    "taxonRank vernacularName genus family order class phylum kingdom",
)
MEDIA_TERMS = re.findall(
    r"\w+",
    "gbifID type format identifier references title description source audience created creator contributor "
    "publisher license rightsHolder",
)
Row = dict[str, str]


def occurrence(gbif_id: str, species_key: str = "11", **more: str) -> Row:
    name = {"11": "Rana alba", "12": "Rana nigra"}.get(species_key, "")
    row = {"gbifID": gbif_id, "speciesKey": species_key, "species": name, "taxonKey": species_key}
    row |= {"scientificName": f"{name} Linnaeus, 1758".strip(), "taxonRank": "SPECIES", "genus": "Rana"}
    return row | {"acceptedTaxonKey": species_key, "acceptedScientificName": row["scientificName"]} | more


def photo(gbif_id: str, identifier: str, **more: str) -> Row:
    return {"gbifID": gbif_id, "type": "StillImage", "format": "image/jpeg", "identifier": identifier} | more


def meta_xml(header_lines: int = 1, multimedia: bool = True, delimiter: str = "\\t", quote: str = "") -> str:
    def table(tag: str, key: str, row_type: str, name: str, terms: list[str]) -> str:
        fields = "".join(f'<field index="{i}" term="http://x.org/terms/{t}"/>' for i, t in enumerate(terms))
        return (
            f'<{tag} encoding="UTF-8" fieldsTerminatedBy="{delimiter}" linesTerminatedBy="\\n" '
            f'fieldsEnclosedBy="{quote}" ignoreHeaderLines="{header_lines}" rowType="{row_type}">'
            f'<files><location>{name}</location></files><{key} index="0"/>{fields}</{tag}>'
        )

    media = table("extension", "coreid", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", MEDIA_TERMS)
    core = table("core", "id", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    return f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{core}{media if multimedia else ""}</archive>'


def table_text(terms: list[str], rows: list[Row], header: bool = True, delimiter: str = "\t", end: str = "\n") -> str:
    lines = [terms] if header else []
    lines += [[row.get(term, "") for term in terms] for row in rows]
    return "".join(delimiter.join(line) + end for line in lines)


def archive_files(occurrences: list[Row], media: list[Row], **more: str | bytes) -> dict[str, str | bytes]:
    """The files of a GBIF download, by name; `more` replaces them or adds others ("." is written "__")."""
    files: dict[str, str | bytes] = {
        "meta.xml": meta_xml(),
        "occurrence.txt": table_text(OCCURRENCE_TERMS, occurrences),
        "multimedia.txt": table_text(MEDIA_TERMS, media),
        "citations.txt": "When using this dataset please use the following citation:\nThe frog list.\n",
        "metadata.xml": '<eml packageId="10.15468/dl.Frogs1"><dataset><alternateIdentifier>0000001-000000000000001'
        "</alternateIdentifier><pubDate> 2026-07-16 </pubDate></dataset></eml>",
    }
    return files | {name.replace("__", "."): content for name, content in more.items()}


def write_folder(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_zip(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@dataclass
class Server:
    """Answers by path; a list of answers is used up, its last one stays. Other paths are those of a GBIF."""

    url: str
    gbif: Gbif
    routes: dict[str, Any] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        found: Any = self.routes.get(asked.path) or self.routes.get(asked.path.split("?")[0])
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(asked)
        return found or self.gbif.answer(asked)

    def paths(self, part: str = "") -> list[str]:
        """The paths that were asked for, those with `part` in them."""
        return [asked.path for asked in self.requests if part in asked.path]

    def posts(self) -> list[Asked]:
        return [asked for asked in self.requests if asked.method == "POST"]


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            asked = Asked(self.path, headers, self.command, body)
            told.requests.append(asked)
            self._send(told.answer(asked))

        do_POST = do_GET  # noqa: N815

        def _send(self, answer: Answer) -> None:
            body, status, headers = answer.body, answer.status, dict(answer.headers)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and answer.ranges and status == 200:
                begin, whole = int(asked[1]), len(body)
                body, status = body[begin:], 206 if begin < whole else 416
                headers["Content-Range"] = f"bytes {begin}-{whole - 1}/{whole}" if body else f"bytes */{whole}"
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: answer.stop_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{httpd.server_address[1]}"
    told = Server(url, Gbif(url))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as told:
        yield told


@pytest.fixture
def other_server() -> Iterator[Server]:
    """Another host, as far as HTTP is concerned."""
    with serving() as told:
        yield told


@pytest.fixture
def gbif(server: Server) -> Gbif:
    """What the server knows."""
    return server.gbif


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that clients wanted to sleep, also those that the stage makes; none does."""
    found: list[float] = []
    for module in ("tabulate", "estimate"):
        monkeypatch.setattr(f"aitax_ray.gbif.{module}.Client", functools.partial(Client, sleep=found.append))
    return found


@pytest.fixture
def client(naps: list[float]) -> Iterator[Client]:
    with Client("me@example.org", sleep=naps.append) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have an account at GBIF: it is not theirs."""
    for name in ("GBIF_USER", "GBIF_PWD", "GBIF_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
