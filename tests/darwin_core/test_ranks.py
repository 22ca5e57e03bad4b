import pytest

from aitax_ray.darwin_core.ranks import read_rank


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("SPECIES", "SPECIES"),
        ("species ", "SPECIES"),
        ("sp.", "SPECIES"),
        ("Art", "SPECIES"),
        ("especie", "SPECIES"),
        ("espèce", "SPECIES"),
        ("espe\u0300ce", "SPECIES"),
        ("http://rs.gbif.org/vocabulary/gbif/rank/species", "SPECIES"),
        ("subsp", "SUBSPECIES"),
        ("ssp.", "SUBSPECIES"),
        ("sub-species", "SUBSPECIES"),
        ("Unterart", "SUBSPECIES"),
        ("varietas", "VARIETY"),
        ("var.", "VARIETY"),
        ("SPECIES_AGGREGATE", "SPECIES_AGGREGATE"),
        ("infraspecific name", "INFRASPECIFIC_NAME"),
        ("Gattung", "GENUS"),
        ("genre", "GENUS"),
        ("släkte", "GENUS"),
        ("Família", "FAMILY"),
        ("rząd", "ORDER"),
        ("unranked", ""),
        ("Rana temporaria", ""),
        ("", ""),
    ],
)
def test_ranks_are_understood_in_many_words(text: str, rank: str) -> None:
    assert read_rank(text) == rank
