"""`aitax cite`: how to cite the data, and how to register the data set at GBIF as a derived dataset with its own DOI.

Nothing is sent: a DOI stays for ever, so a person sends it. The API: https://techdocs.gbif.org/en/openapi/v1/registry
and DerivedDatasetCreationRequest of gbif/registry; `title` and an http(s) `sourceUrl` are needed.
"""

import json
import logging
import re
import shlex
from typing import Any

import pyarrow.compute as pc

from aitax_ray import __version__, workspace
from aitax_ray.dataset.attribution import require_split
from aitax_ray.errors import DataError, SettingsError
from aitax_ray.schemas import DATASET_KEY
from aitax_ray.web import hide_secrets
from aitax_ray.workspace import Workspace

log = logging.getLogger(__name__)

ADDRESS = "https://api.gbif.org/v1/derivedDataset"
BODY = "derived_dataset.json"
# No URL on purpose: GBIF refuses it, so no DOI comes to point nowhere when somebody forgets to put one here.
PLACEHOLDER = "PUT HERE THE URL WHERE THE DATA SET CAN BE FOUND"
WHAT_URL = (
    "the page where the data set, or at least its attribution.csv, can be found for good, such as a record at Zenodo"
)
SIDES = ("train", "val", "test")


def cite(
    root: str,
    *,
    title: str | None = None,
    source_url: str | None = None,
    datasets: bool = False,
    as_json: bool = False,
) -> str:
    """Write what `aitax cite` prints: the citation of the download, and how to register the derived dataset.

    With `datasets` the citations of the datasets too; with `as_json` only the body of the request. Reads
    archive/query.json, split/split.parquet and split/related_datasets.json. Raises SettingsError when `source_url` is
    no http(s) URL, MissingArtifactError and StaleArtifactError when `split` is not complete; with `as_json`
    DataError when no photograph in use comes from a dataset of GBIF.
    """
    if source_url and not re.fullmatch(r"https?://[^\s/?#]+\.[^\s<>\"{}|\\^`]+", source_url, re.IGNORECASE):
        raise SettingsError(f"--source-url {source_url} is no http(s) address: give {WHAT_URL}")
    ws = Workspace(root)
    require_split(ws)
    query: dict[str, Any] = ws.storage.read_json(workspace.QUERY)
    cited = ["Cite the data as", _indented(query.get("citation") or "(no citation is known)")]
    related = _related(ws)
    if not related:
        reason = (
            "there is nothing to register: no photograph of the data set comes from a dataset of GBIF; "
            f"{workspace.ATTRIBUTION} lists whom to credit"
        )
        if as_json:
            raise DataError(reason)
        return "\n\n".join([*cited, f"{reason[0].upper()}{reason[1:]}."]) + "\n"
    body = _body(ws, query, related, title, source_url)
    if as_json:
        if not source_url:
            log.warning("sourceUrl is not a URL yet, and GBIF will refuse it: give --source-url, %s", WHAT_URL)
        return _as_json(body)
    if datasets:
        cited += [_datasets(query, list(body["relatedDatasets"]))]
    return "\n\n".join([*cited, _how(root, body, source_url)]) + "\n"


def _related(ws: Workspace) -> dict[str, int]:
    """Read the number of records used per dataset of GBIF."""
    if not ws.storage.exists(workspace.RELATED_DATASETS):
        raise DataError(
            f"{ws.storage.address(workspace.RELATED_DATASETS)} is not there: run `aitax split --root {ws.root} --force`"
        )
    counts: dict[str, int] = ws.storage.read_json(workspace.RELATED_DATASETS)
    related = {key: number for key, number in counts.items() if re.match(DATASET_KEY, key)}
    if len(related) < len(counts):
        log.warning(
            "%s of %s dataset keys are none of GBIF's, such as %s, and are left out",
            f"{len(counts) - len(related):,}",
            f"{len(counts):,}",
            min(counts.keys() - related.keys()),
        )
    return related


def _body(
    ws: Workspace, query: dict[str, Any], related: dict[str, int], title: str | None, source_url: str | None
) -> dict[str, Any]:
    """The body of the request."""
    split = ws.storage.read_table(workspace.SPLIT, ["species_key", "split"])
    num_species = pc.count_distinct(split["species_key"]).as_py()
    sides = {side: pc.sum(pc.equal(split["split"], side)).as_py() or 0 for side in SIDES}
    doi = str(query.get("doi") or "")
    origin = (
        f"GBIF download {doi}" if doi else "a GBIF occurrence search" if query.get("source") == "search" else "GBIF"
    )
    species = f"{num_species:,} species" if num_species > 1 else "one species"
    body = {
        "title": title or f"Photographs of {species} from {origin}",
        "description": f"{split.num_rows:,} photographs of {species}, of {sum(related.values()):,} occurrence records "
        f"from {origin}: those that could be fetched and were not sorted out, as a data set to learn identification "
        f"from, split into {', '.join(f'{side} ({sides[side]:,})' for side in SIDES)} by aitax-ray {__version__}.",
        "sourceUrl": source_url or PLACEHOLDER,
        "originalDownloadDOI": doi,
        "relatedDatasets": related,
    }
    if "/dl." not in doi:  # of a publisher's archive, or none: GBIF takes those of its downloads only
        del body["originalDownloadDOI"]
    return body


def _datasets(query: dict[str, Any], keys: list[str]) -> str:
    citations = query.get("dataset_citations") or []
    if citations:
        return "\n\n".join(["The datasets of the download", *map(_indented, citations)])
    pages = "\n".join(f"https://www.gbif.org/dataset/{key}" for key in keys)
    return f"The citations of the datasets are not known here; each stands on its page\n\n{_indented(pages)}"


def _how(root: str, body: dict[str, Any], source_url: str | None) -> str:
    url = source_url or "URL"
    make = f"aitax cite --root {shlex.quote(hide_secrets(root))} --source-url {shlex.quote(url)} --json > {BODY}"
    send = f"-sS -X POST -H 'Content-Type: application/json' --data-binary @{BODY} {ADDRESS}"
    missing = "" if source_url else f"\n\nGBIF needs a sourceUrl: give --source-url, {WHAT_URL}."
    return f"""\
What you use is a part of that. To give it a DOI of its own, which credits just the \
datasets it comes from ({len(body["relatedDatasets"]):,}), register it as a derived dataset at GBIF with this body:

{_as_json(body).rstrip()}{missing}

Nothing has been sent, and a DOI cannot be taken back. Write the body into a file, look at it, and send it with your \
account at GBIF, be it in ~/.netrc (machine api.gbif.org) or in GBIF_USER and GBIF_PWD:

    {make}
    curl --netrc {send}
    curl --user "$GBIF_USER:$GBIF_PWD" {send}

The form at https://www.gbif.org/derived-dataset/register does the same."""


def _as_json(body: dict[str, Any]) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
