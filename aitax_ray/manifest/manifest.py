"""The `manifest` stage: from a DOI, an archive, names of species or a folder to the list of photographs to download."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from aitax_ray import workspace
from aitax_ray.errors import SettingsError
from aitax_ray.manifest.settings import LISTS, SOURCES, ManifestSettings
from aitax_ray.settings import flag
from aitax_ray.workspace import StageReport, Workspace


def manifest(settings: ManifestSettings) -> StageReport:
    """List the photographs of a GBIF query, an archive or a folder, each with its species.

    Reads GBIF, an archive or a folder. Writes archive/ (the fetched archive; query.json: where the data come from and
    how to cite them), manifest/media/ (schemas.MEDIA), manifest/taxa.parquet (TAXA), manifest/occurrences.parquet
    (OCCURRENCES: those with a photograph), manifest/dropped.parquet (DROPPED: every other media row, with the reason)
    and manifest/unmatched_names.json. A fetched archive is kept when other settings change. With --dry-run it only
    counts or estimates, and stores no report. Raises SettingsError, GbifError, ArchiveError,
    StorageError, and DataError when no photograph is left.
    """
    from aitax_ray.manifest.estimate import dry_run
    from aitax_ray.manifest.tabulate import VERNACULAR_NAMES_MISSING, tabulate

    _check_source(settings)
    ws = Workspace(settings.root)
    if settings.dry_run:
        return dry_run(ws.storage, settings)
    earlier = ws.report("manifest")
    # Only with --vernacular-names: a manifest that changes makes everything that was built from it stale.
    unnamed = settings.vernacular_names and earlier is not None and earlier.counts.get(VERNACULAR_NAMES_MISSING)
    again = "vernacular names are missing" if unnamed else ""
    # Incremental, so that fetched archives and answers are kept; the tables are always written anew.
    return ws.run(
        "manifest", settings, (), lambda: tabulate(ws.storage, settings), incremental=True, rerun_reason=again
    )


def _check_source(settings: ManifestSettings) -> None:
    from aitax_ray.gbif import matching

    given = [name for name in SOURCES if getattr(settings, name)]
    if len(given) != 1:
        flags = ", ".join(map(flag, SOURCES))
        found = " and ".join(map(flag, given)) + " are" if given else "none is"
        raise SettingsError(f"manifest takes exactly one of {flags}: {found} given")
    for name in LISTS:
        if path := getattr(settings, name):
            (matching.read_lines if name == "names" else matching.read_keys)(path, flag(name))
    for name in ("providers", "label"):
        if settings.photos and getattr(settings, name) != ManifestSettings.model_fields[name].default:
            raise SettingsError(f"{flag(name)} does not go with --photos, whose folders name the species")
    if settings.dry_run and settings.request_again:
        raise SettingsError("--dry-run asks GBIF for no download: leave out --request-again, or --dry-run")
    path = settings.local_path
    if path is not None and not path.exists():
        raise SettingsError(f"{flag(given[0])}: there is nothing at {path}")
    if settings.photos and path is not None and not path.is_dir():
        raise SettingsError(f"--photos: {path} is no folder; for an archive use --archive")
    _check_apart(settings.root, {given[0]: path} | {name: getattr(settings, name) for name in LISTS})


def _check_apart(root: str, read: Mapping[str, Path | None]) -> None:
    """Raise SettingsError when an input lies in a folder that a stage writes to, and may empty."""
    from aitax_ray.manifest.source import find_local_path

    top = find_local_path(root)
    folders = {folder for folders in workspace.FOLDERS.values() for folder in folders} if top else set()
    for (name, path), folder in product(read.items(), sorted(folders)):
        if path is None or top is None:
            continue
        inner, outer = (top / folder).resolve(), path.resolve()
        if outer.is_relative_to(inner) or inner.is_relative_to(outer):
            raise SettingsError(
                f"{flag(name)}: {path} and {top / folder}, which is written by a stage, lie in each other: "
                "choose another --root"
            )
