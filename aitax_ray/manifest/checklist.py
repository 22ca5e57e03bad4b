"""Labels the taxa of a checklist (an archive with a core of taxa) by their species, genus or family."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import polars as pl

from aitax_ray.darwin_core.name_text import clean
from aitax_ray.darwin_core.ranks import FAMILY, GENUS, SPECIES, read_rank
from aitax_ray.darwin_core.relations import RANKS
from aitax_ray.darwin_core.scientific_names import ScientificName, canonical_name, read_name, read_parts
from aitax_ray.darwin_core.tables import KEY

MAX_DEPTH = 100  # ancestors per taxon
_LINKS = ("accepted", "accepted_name", "parent", "parent_name", "vernacular_name")
_COLUMNS = ("species_key", "name", "scientific_name", "rank", "vernacular_name", *RANKS)


@dataclass(frozen=True)
class _Taxon:
    """A taxon of the checklist, or a taxon that other rows name and that has no row: its name is its key.

    `rank` is GBIF's word for the rank, else the archive's word, else "". `parsed` has the certain parts of the name.
    """

    key: str
    name: str
    scientific_name: str
    rank: str
    parsed: ScientificName
    accepted: str = ""
    accepted_name: str = ""
    parent: str = ""
    parent_name: str = ""
    vernacular_name: str = ""
    lineage: dict[str, str] = field(default_factory=dict)  # names by rank, as RANKS

    @property
    def genus(self) -> str:
        """The genus that a species or a part of a species belongs to, "" for higher taxa."""
        return self.parsed.genus if self.parsed.species or self.rank == SPECIES else ""

    @property
    def is_identified(self) -> bool:
        """Whether the name fits the rank: "Rana sp." is the name of no species, "unknown" is the name of no taxon."""
        parsed = self.parsed
        if self.rank == SPECIES and (parsed.genus or parsed.is_doubtful):
            return parsed.species != ""
        return parsed.canonical != "" or self.scientific_name == ""


def label_taxa(taxa: pl.DataFrame, rank: str) -> pl.DataFrame:
    """Label each taxon by the ancestor of its accepted taxon at `rank`, or by the accepted taxon if `rank` is "".

    Links by id go first, then links by name. The key of a taxon that has no row of its own is its name.

    INPUT   core_id and TAXON_TERMS, a row per taxon
    OUTPUT  core_id, species_key ("" if there is no such ancestor), name, scientific_name, rank, vernacular_name,
            RANKS
    """
    checklist = _Checklist(_taxon(row) for row in taxa.iter_rows(named=True))
    rows = [{KEY: key} | checklist.label(taxon, rank) for key, taxon in checklist.taxa.items()]
    return pl.DataFrame(rows, schema=dict.fromkeys((KEY, *_COLUMNS), pl.String))


def _taxon(row: dict[str, str]) -> _Taxon:
    rank = read_rank(row["rank"])
    parsed = read_name(row["scientific_name"] or row["canonical_name"], rank)
    if not row["scientific_name"] and not parsed.canonical:
        parsed = read_parts(row["genus"], row["epithet"], row["infraspecific_epithet"])
    return _Taxon(
        key=row[KEY],
        name=clean(row["canonical_name"]) or parsed.canonical,
        scientific_name=clean(row["scientific_name"]) or parsed.canonical,
        rank=rank or parsed.rank or clean(row["rank"]).upper(),
        parsed=parsed,
        lineage={name: clean(row[name]) for name in RANKS},
        **{name: row[name] for name in _LINKS},
    )


class _Checklist:
    """The taxa by id and by name, to follow the links between them."""

    def __init__(self, taxa: Iterable[_Taxon]) -> None:
        self.taxa = {taxon.key: taxon for taxon in taxa}
        self._by_name: dict[str, list[_Taxon]] = {}
        for taxon in self.taxa.values():
            self._by_name.setdefault(taxon.parsed.canonical, []).append(taxon)
        self._genera = {taxon.parsed.genus for taxon in self.taxa.values() if taxon.parsed.species}

    def label(self, taxon: _Taxon, rank: str) -> dict[str, str]:
        """Return the columns of the label of a taxon, "" in each when it has no label."""
        line = self._line(taxon)
        label = self._at_rank(line, rank) or self._named_at_rank(line, rank)
        return self._row(label) if label and label.is_identified else dict.fromkeys(_COLUMNS, "")

    def _line(self, taxon: _Taxon) -> list[_Taxon]:
        """Return the accepted taxon and its ancestors, as far as links lead. Links may form a circle."""
        line: dict[str, _Taxon] = {}
        is_own_name = canonical_name(taxon.accepted_name) == taxon.parsed.canonical
        at: _Taxon | None = self._find(taxon.accepted, "" if is_own_name else taxon.accepted_name) or taxon
        while at and at.key not in line and len(line) < MAX_DEPTH:
            line[at.key] = at
            at = self._find(at.parent, at.parent_name)
        return list(line.values())

    def _find(self, key: str, name: str, rank: str = "") -> _Taxon | None:
        """Find a taxon by its id, else by its name and rank (an accepted one first), else make one of the name."""
        if key in self.taxa:
            return self.taxa[key]
        parsed = read_name(name)
        if not parsed.canonical:
            return None
        known = [taxon for taxon in self._by_name.get(parsed.canonical, ()) if not rank or self._rank(taxon) == rank]
        if known:
            return min(known, key=lambda taxon: taxon.accepted not in ("", taxon.key))
        return _Taxon(parsed.canonical, parsed.canonical, clean(name), rank or parsed.rank, parsed)

    def _rank(self, taxon: _Taxon) -> str:
        """Return the rank of a taxon. Without a rank, a name that species begin with is a genus."""
        if not taxon.rank and taxon.parsed.canonical in self._genera:
            return GENUS
        if not taxon.rank and taxon.parsed.canonical.endswith(("idae", "aceae")):
            return FAMILY
        return taxon.rank

    def _at_rank(self, line: list[_Taxon], rank: str) -> _Taxon | None:
        return next((taxon for taxon in line if not rank or self._rank(taxon) == rank), None)

    def _named_at_rank(self, line: list[_Taxon], rank: str) -> _Taxon | None:
        """Return the taxon at a rank by the names in the line: the species of a subspecies, the genus of a species."""
        for taxon in line:
            parts = {SPECIES: taxon.parsed.species, GENUS: taxon.genus}
            found = self._find("", taxon.lineage.get(rank.lower(), "") or parts.get(rank, ""), rank)
            if found and found.key in self.taxa:
                return self._at_rank(self._line(found), rank)
            if found:
                above = RANKS[RANKS.index(rank.lower()) + 1 :] if rank.lower() in RANKS else RANKS
                return replace(found, lineage={name: taxon.lineage.get(name, "") for name in above})
        return None

    def _row(self, taxon: _Taxon) -> dict[str, str]:
        above = {self._rank(t).lower(): t.name for t in reversed(self._line(taxon))}
        above.setdefault("genus", taxon.genus)
        return {
            "species_key": taxon.key,
            "name": taxon.name,
            "scientific_name": taxon.scientific_name,
            "rank": self._rank(taxon),
            "vernacular_name": taxon.vernacular_name,
            **{rank: taxon.lineage.get(rank) or above.get(rank, "") for rank in RANKS},
        }
