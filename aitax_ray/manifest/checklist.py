"""Archives of a checklist (core of taxa): which species, genus or family each of its taxa belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from aitax_ray.darwin_core.archive import KEY
from aitax_ray.darwin_core.relations import RANKS, TAXON_TERMS
from aitax_ray.darwin_core.scientific_names import canonical_name

MAX_DEPTH = 100  # ranks above a taxon; a checklist may go in circles
_TAXON = [name for name in TAXON_TERMS if name not in RANKS]


@dataclass(frozen=True)
class _Taxon:
    scientific_name: str
    canonical_name: str
    rank: str
    accepted: str
    parent: str
    vernacular_name: str
    lineage: tuple[str, ...]  # names, as RANKS

    @property
    def name(self) -> str:
        return self.canonical_name or canonical_name(self.scientific_name)


def label_taxa(taxa: pl.DataFrame, rank: str) -> pl.DataFrame:
    """Every taxon's id with the taxon that labels its photographs: the accepted one, or its ancestor of `rank`, if any.

    INPUT   core_id and TAXON_TERMS, a row per taxon
    OUTPUT  core_id, species_key ("" where the checklist knows none), name, scientific_name, rank, vernacular_name,
            RANKS
    """
    known = {
        row[KEY]: _Taxon(**{name: row[name] for name in _TAXON}, lineage=tuple(row[rank] for rank in RANKS))
        for row in taxa.iter_rows(named=True)
    }
    rows = []
    for key in known:
        line = _line(known, key)
        found = next((k for k in line if not rank or known[k].rank.upper() == rank), None)
        rows.append({KEY: key, **(_row(known, found) if found else dict.fromkeys(_COLUMNS, ""))})
    return pl.DataFrame(rows, schema=dict.fromkeys((KEY, *_COLUMNS), pl.String))


_COLUMNS = ("species_key", "name", "scientific_name", "rank", "vernacular_name", *RANKS)


def _line(known: Mapping[str, _Taxon], key: str) -> list[str]:
    """The accepted taxon and its ancestors, as far as the checklist has them."""
    line: list[str] = []
    accepted = known[key].accepted
    at = accepted if accepted in known else key
    while at in known and at not in line and len(line) < MAX_DEPTH:
        line.append(at)
        at = known[at].parent
    return line


def _row(known: Mapping[str, _Taxon], key: str) -> dict[str, str]:
    taxon, line = known[key], _line(known, key)
    told = dict(zip(RANKS, taxon.lineage, strict=True))
    above = {known[k].rank.lower(): known[k].name for k in reversed(line)}
    return {
        "species_key": key,
        "name": taxon.name,
        "scientific_name": taxon.scientific_name,
        "rank": taxon.rank.upper(),
        "vernacular_name": taxon.vernacular_name,
        **{rank: told[rank] or above.get(rank, "") for rank in RANKS},
    }
