"""`aitax takedown`: withdraws photographs on request of their authors.

Running services leave them out at once, the next `publish` deletes them from every file, and the log of take-downs
(aitax_ray.takedowns) keeps them from coming back.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING

from aitax_ray import schemas, takedowns, workspace
from aitax_ray.criteria import (
    NAMES,
    Criteria,
    are_similar,
    check_value,
    is_same,
    names_in,
    normalise_name,
    normalise_url,
)
from aitax_ray.engine.info import read_info
from aitax_ray.engine.matches import (
    PLACES,
    find_photographs,
    match,
    record_matches,
    search,
    tables_of_engine,
    write_services,
)
from aitax_ray.engine.purge import purge as delete_withdrawn
from aitax_ray.errors import DataError, SettingsError
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Request
from aitax_ray.web import hide_secrets
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

MAX_LISTED = 20  # spellings of names, and species, in the answer


def run(
    root: str | None,
    engine: str | None,
    given: Mapping[str, Sequence[str]],
    reason: str = "",
    requested_by: str = "",
    *,
    dry_run: bool = False,
    purge: bool = False,
    restore: str | None = None,
    show_list: bool = False,
) -> str:
    """Do what the flags of the command ask for, and say what was done. Raises SettingsError when they do not fit."""
    if (root is None) == (engine is None):
        raise SettingsError("takedown needs either --root or --engine")
    has_criteria = any(given.values())
    if sum([has_criteria or (purge and restore is None and not show_list), restore is not None, show_list]) != 1:
        raise SettingsError("takedown needs one of --image, --url, --creator, --occurrence, --restore, --purge, --list")
    if root is None:
        if engine is None or not has_criteria or purge:
            raise SettingsError("--restore, --purge and --list need --root: a single engine has no log")
        return take_down_from_engine(engine, make_requests(given, reason, requested_by), dry_run=dry_run)
    if show_list:
        return list_requests(root)
    if restore is not None:
        return undo(root, restore)
    if not has_criteria:
        delete_withdrawn(Workspace(root))
        return "No file holds withdrawn photographs."
    return take_down(root, make_requests(given, reason, requested_by), dry_run=dry_run, now=purge)


def make_requests(given: Mapping[str, Sequence[str]], reason: str = "", requested_by: str = "") -> list[Request]:
    """Make a request of each criterion. Raises SettingsError when one cannot be."""
    about = {"requested": takedowns.now(), "reason": reason, "requested_by": requested_by}
    return [
        check_value(Request.model_validate({**about, "kind": kind, "value": value}))
        for kind, values in given.items()
        for value in values
    ]


def take_down(root: str, requests: Sequence[Request], *, dry_run: bool = False, now: bool = False) -> str:
    """Withdraw the photographs of some requests, and say what was found.

    The same request again adds what has come since. With `dry_run` nothing is written; with `now` the photographs are
    deleted from all files, and not by the next `publish`. Raises DataError when a request is about no photograph.
    """
    ws = Workspace(root)
    active = takedowns.read_active_requests(ws.storage)
    requests = [next((known for known in active if is_same(known, request)), request) for request in requests]
    found = find_photographs(ws.storage, Criteria(requests))
    parts, recorded = [], []
    for request in requests:
        matched = match(request, found)
        if matched.image_ids:
            recorded.append(request)
            parts.append(_describe(ws.storage, matched, found, is_known=request in active))
        elif (other := _find_other(active, request)) is not None:
            parts.append(f"{_criterion(request)} was withdrawn already, by {other.name} ({_criterion(other)})")
        else:
            raise DataError(_explain_nothing(ws.storage, request))
    if dry_run:
        return "\n\n".join([*parts, "Nothing was changed (--dry-run)."])
    recorded = record_matches(ws.storage, recorded, found)
    if now:
        delete_withdrawn(ws)
    end = ["Running services do not show them any more."]
    end += ["They were deleted from every file." if now else "The next `aitax publish` deletes them from every file."]
    undo = [f"Undo with: aitax takedown --root {ws.storage.address()} --restore {request.name}" for request in recorded]
    return "\n\n".join([*parts, "\n".join([" ".join(end), *undo])])


def _find_other(active: Sequence[Request], request: Request) -> Request | None:
    """Find the request that withdrew the photographs of another one, which are in no file any more."""
    for other in active:
        urls = {normalise_url(url) for url in other.urls} if request.kind == "url" else set()
        if request.value in (*other.image_ids, *other.gbif_ids) or normalise_url(request.value) in urls:
            return other
    return None


def take_down_from_engine(location: str, requests: Sequence[Request], *, dry_run: bool = False) -> str:
    """Withdraw photographs from one engine that was copied elsewhere, and say what was found.

    Its services do not show them any more. Raises DataError when a request is about no photograph of the engine, and
    EngineError when there is none.
    """
    storage = Storage(location.rstrip("/"))
    read_info(storage, "")  # raises EngineError
    found = search(tables_of_engine(storage, ""), Criteria(requests))
    for request in requests:
        if not match(request, found).image_ids:
            raise DataError(f"no photograph of {storage.address()} matches {_criterion(request)}")
    parts = [_describe(storage, match(request, found), found, is_known=False) for request in requests]
    if dry_run:
        return "\n\n".join([*parts, "Nothing was changed (--dry-run)."])
    before = takedowns.read_withdrawn(storage, takedowns.WITHDRAWN_FILE)
    takedowns.write_withdrawn(storage, takedowns.WITHDRAWN_FILE, {*before, *found["image_id"]})
    end = (
        "Services of this engine do not show them any more. Its files still hold them: take them down from the root "
        "that the engine came from, publish there, and copy the engine again."
    )
    return "\n\n".join([*parts, end])


def undo(root: str, name: str) -> str:
    """Undo a request that was a mistake. Raises DataError when there is no such request."""
    ws = Workspace(root)
    requests = takedowns.read_requests(ws.storage)
    request = next((request for request in requests if request.name == name), None)
    if request is None:
        raise DataError(f"no request is called {name}: see `aitax takedown --root {root} --list`")
    if request.restored is None:
        takedowns.write_request(ws.storage, request.model_copy(update={"restored": takedowns.now()}))
    write_services(ws.storage)
    still = set(takedowns.withdrawn_ids(takedowns.read_active_requests(ws.storage)))
    stored = set(find_photographs(ws.storage, Criteria((), image_ids=request.image_ids))["image_id"])
    gone = [image_id for image_id in request.image_ids if image_id not in stored and image_id not in still]
    lines = [f"{name} has no effect any more."]
    if kept := still & set(request.image_ids):
        lines.append(f"{len(kept):,} of its photographs stay withdrawn by other requests.")
    if gone:
        lines.append(
            f"{len(gone):,} of its photographs were deleted already: `aitax manifest --root {root} --force` and the "
            "stages after it bring them back."
        )
    return "\n".join(lines)


def list_requests(root: str) -> str:
    """List the requests of the log, the oldest first."""
    storage = Storage(root)
    lines = []
    for request in takedowns.read_requests(storage):
        parts = [
            request.name,
            f"{request.requested.astimezone(UTC):%Y-%m-%d %H:%M}",
            _photographs(len(request.image_ids)),
            _criterion(request),
            f"reason: {request.reason}" if request.reason else "",
            f"requested by: {request.requested_by}" if request.requested_by else "",
            f"restored {request.restored:%Y-%m-%d}" if request.restored else "",
        ]
        lines.append("  ".join(filter(None, parts)))
    return "\n".join(lines) or "no take-downs"


def _photographs(num: int) -> str:
    return "1 photograph" if num == 1 else f"{num:,} photographs"


def _criterion(request: Request) -> str:
    return f'--{request.kind} "{hide_secrets(request.value)}"'


def _describe(storage: Storage, request: Request, found: "pl.DataFrame", *, is_known: bool) -> str:
    """Say what a request is about: photographs by place and species, spellings of names, similar names."""
    import polars as pl

    rows = found.filter(pl.col("image_id").is_in(request.image_ids))
    lines = [f"{_photographs(len(request.image_ids))} by {_criterion(request)}"]
    lines[0] += f" (withdrawn on {request.requested:%Y-%m-%d})" if is_known else ""
    places = rows.group_by("place").agg(pl.col("image_id").n_unique())
    places = places.sort(pl.col("place").replace_strict(PLACES, list(range(len(PLACES))), default=len(PLACES)), "place")
    if places.height:
        lines.append("  in " + ", ".join(f"{place} {num:,}" for place, num in places.iter_rows()))
    else:
        lines.append("  in no file any more")
    species = rows.filter(pl.col("species_key") != "").unique(["image_id", "species_key"], maintain_order=True)
    counts = species["species_key"].value_counts(sort=True).rows()
    names = _names_of_species(storage)
    if counts:
        shown = ", ".join(f"{names.get(key, key)} {num:,}" for key, num in counts[:MAX_LISTED])
        lines.append(f"  of {len(counts):,} species: {shown}{', ...' if len(counts) > MAX_LISTED else ''}")
    own = Criteria([request.model_copy(update={"image_ids": [], "urls": [], "jpeg_sha256": []})])
    num_copies = len(set(rows["image_id"]) - set(rows.filter(own.find(rows))["image_id"])) if not is_known else 0
    if num_copies:
        lines.append(f"  {num_copies:,} of them have the same pixels under another address")
    if request.kind == "creator":
        lines += _describe_names(storage, request, rows)
    return "\n".join(lines)


def _describe_names(storage: Storage, request: Request, rows: "pl.DataFrame") -> list[str]:
    name = normalise_name(request.value)
    spellings = {text for column in NAMES for text in rows[column].unique() if name in names_in(text)}
    lines = ["  spelled " + ", ".join(f'"{text}"' for text in sorted(spellings)[:MAX_LISTED])] if spellings else []
    similar = _similar_names(storage, request.value)
    if similar:
        lines.append("  similar names that were NOT matched (give each with --creator if it is the same person):")
        lines += [f'    "{text}" {num:,}' for text, num in similar]
    return lines


def _similar_names(storage: Storage, name: str) -> list[tuple[str, int]]:
    """List names in the manifest that are written similarly, with their photographs, the most frequent first."""
    import polars as pl

    counts: dict[str, int] = {}
    for file in storage.files(workspace.MEDIA, ".parquet"):
        for batch in storage.read_batches(file.path, list(NAMES), 1 << 20, schemas.MEDIA):
            rows = pl.DataFrame(batch)
            texts = rows.select(pl.concat_list(pl.col(NAMES).fill_null("")).list.unique()).to_series().explode()
            for text, num in texts.value_counts().iter_rows():
                counts[text] = counts.get(text, 0) + num
    wanted = normalise_name(name)
    found = [(text, num) for text, num in counts.items() if wanted not in names_in(text) and are_similar(name, text)]
    return sorted(found, key=lambda item: (-item[1], item[0]))[:MAX_LISTED]


def _names_of_species(storage: Storage) -> dict[str, str]:
    path = next((path for path in (workspace.TAXA, "taxa.parquet") if storage.exists(path)), None)
    if path is None:
        return {}
    taxa = storage.read_table(path, ["species_key", "name"])
    return dict(zip(taxa["species_key"].to_pylist(), taxa["name"].to_pylist(), strict=True))


def _explain_nothing(storage: Storage, request: Request) -> str:
    message = f"no photograph under {storage.address()} matches {_criterion(request)}"
    similar = _similar_names(storage, request.value) if request.kind == "creator" else []
    if similar:
        return f"{message}; similar names are " + ", ".join(f'"{text}" ({num:,})' for text, num in similar)
    return f"{message}: look at its spelling"
