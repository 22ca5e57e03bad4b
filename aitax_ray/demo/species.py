"""The invented species of the demo world: their names, where they live, and what they look like.

They come in pairs of one genus that differ in few traits, such as the number of petals, as real species do: the
classifier must tell the pairs apart. A name that resembles a real one does so by accident.
"""

from dataclasses import dataclass
from typing import Literal

Colour = tuple[int, int, int]
PetalShape = Literal["round", "long", "pointed"]
LeafShape = Literal["oval", "lance", "lobed"]
WingShape = Literal["rounded", "pointed", "tailed"]


@dataclass(frozen=True)
class FlowerTraits:
    """What a flower looks like; lengths are shares of the flower's radius."""

    num_petals: int
    petal_shape: PetalShape
    petal_colour: Colour
    throat_colour: Colour  # of the petal's base
    centre_colour: Colour
    centre_size: float
    leaf_shape: LeafShape
    second_ring: Colour | None = None  # colour of a shorter, inner ring of petals
    notched: bool = False
    stripe_colour: Colour | None = None


@dataclass(frozen=True)
class ButterflyTraits:
    """What a butterfly looks like from above; a place is a share of the way from the wing's root to its margin."""

    wing_shape: WingShape
    base_colour: Colour
    margin_colour: Colour
    margin_width: float
    band_colour: Colour | None = None
    band_place: float = 0.5
    num_spots: int = 0  # on each wing
    spot_colour: Colour = (245, 240, 225)
    spot_size: float = 0.1


@dataclass(frozen=True)
class DemoSpecies:
    """An invented species; the lineage is as GBIF spells it, `home` the centre of its range in degrees."""

    species_key: str
    name: str
    authorship: str
    vernacular_name: str
    family: str
    order: str
    home: tuple[float, float]
    country_code: str
    traits: FlowerTraits | ButterflyTraits

    @property
    def genus(self) -> str:
        return self.name.split()[0]

    @property
    def scientific_name(self) -> str:
        return f"{self.name} {self.authorship}"

    @property
    def lineage(self) -> dict[str, str]:
        """Rank to name, kingdom to genus."""
        top = (
            ("Plantae", "Tracheophyta", "Magnoliopsida")
            if isinstance(self.traits, FlowerTraits)
            else ("Animalia", "Arthropoda", "Insecta")
        )
        ranks = ("kingdom", "phylum", "class", "order", "family", "genus")
        return dict(zip(ranks, (*top, self.order, self.family, self.genus), strict=True))


_ROSE, _SUN, _RUST = (224, 92, 150), (250, 200, 40), (196, 64, 30)
_WHITE, _INK, _WINE = (230, 226, 232), (40, 28, 30), (110, 24, 60)


def _rose(num_petals: int, throat_colour: Colour, centre_colour: Colour) -> FlowerTraits:
    return FlowerTraits(num_petals, "round", _ROSE, throat_colour, centre_colour, 0.2, "oval")


def _star(stripe_colour: Colour | None) -> FlowerTraits:
    return FlowerTraits(
        5,
        "round",
        _WHITE,
        (214, 226, 160),
        (176, 190, 60),
        0.13,
        "lobed",
        notched=True,
        stripe_colour=stripe_colour,
    )


def _sun(second_ring: Colour | None) -> FlowerTraits:
    return FlowerTraits(13, "long", (250, 196, 30), (240, 150, 20), (92, 58, 34), 0.3, "lance", second_ring)


def _bell(num_petals: int, petal_colour: Colour, centre_size: float) -> FlowerTraits:
    return FlowerTraits(num_petals, "pointed", petal_colour, (206, 206, 250), (250, 236, 160), centre_size, "lance")


def _ember(band_place: float) -> ButterflyTraits:
    return ButterflyTraits("rounded", (226, 112, 34), _INK, 0.13, (252, 226, 150), band_place)


def _eyed(base_colour: Colour, num_spots: int, spot_size: float) -> ButterflyTraits:
    return ButterflyTraits(
        "rounded", base_colour, (206, 176, 134), 0.09, None, 0.5, num_spots, (244, 206, 96), spot_size
    )


def _sail(wing_shape: WingShape, band_colour: Colour, num_spots: int) -> ButterflyTraits:
    return ButterflyTraits(
        wing_shape, (34, 40, 66), (20, 20, 34), 0.12, band_colour, 0.52, num_spots, (244, 120, 60), 0.11
    )


_FAMILIES = {  # genus to family and order
    "Velanthis": ("Velanthaceae", "Rosales"),
    "Orimella": ("Velanthaceae", "Rosales"),
    "Solvantha": ("Solvanthaceae", "Asterales"),
    "Quistera": ("Solvanthaceae", "Asterales"),
    "Aurivela": ("Aurivelidae", "Lepidoptera"),
    "Tervanessa": ("Aurivelidae", "Lepidoptera"),
    "Ombralys": ("Ombralyidae", "Lepidoptera"),
}


def _species(
    species_key: str,
    name: str,
    authorship: str,
    vernacular_name: str,
    home: tuple[float, float],
    country_code: str,
    traits: FlowerTraits | ButterflyTraits,
) -> DemoSpecies:
    family, order = _FAMILIES[name.split()[0]]
    return DemoSpecies(species_key, name, authorship, vernacular_name, family, order, home, country_code, traits)


SPECIES = (
    # A pair that differs in the number of petals and the centre,
    _species(
        "990000101",
        "Velanthis quinata",
        "Demo",
        "five-petalled velanth",
        (46.5, 8.0),
        "CH",
        _rose(5, (250, 190, 214), _SUN),
    ),
    _species(
        "990000102",
        "Velanthis octona",
        "(Demo) Sample",
        "eight-petalled velanth",
        (45.5, 11.0),
        "IT",
        _rose(8, (252, 240, 244), _WINE),
    ),
    # in the place of the band,
    _species("990000201", "Aurivela medialis", "Sample, 1902", "mid-banded ember", (-1.5, 37.0), "KE", _ember(0.42)),
    _species("990000202", "Aurivela apicalis", "Sample, 1902", "edge-banded ember", (-3.0, 35.0), "TZ", _ember(0.74)),
    # in stripes on the petals,
    _species("990000301", "Orimella candida", "Exempl.", "plain starcup", (60.0, 9.0), "NO", _star(None)),
    _species("990000302", "Orimella striata", "Exempl.", "striped starcup", (62.0, 15.0), "SE", _star((140, 40, 120))),
    # in number and size of the eyes and the tone of the wing,
    _species(
        "990000401",
        "Tervanessa unocula",
        "Muster, 1888",
        "one-eyed sable",
        (49.0, 12.0),
        "DE",
        _eyed((112, 74, 58), 1, 0.22),
    ),
    _species(
        "990000402",
        "Tervanessa multocula",
        "Muster, 1888",
        "many-eyed sable",
        (47.5, 15.0),
        "AT",
        _eyed((92, 104, 124), 4, 0.1),
    ),
    # in a second ring of petals,
    _species("990000501", "Solvantha simplex", "Demo & Muster", "single sunwheel", (-22.5, 17.0), "NA", _sun(None)),
    _species("990000502", "Solvantha duplex", "Demo & Muster", "double sunwheel", (-30.0, 25.0), "ZA", _sun(_RUST)),
    # in tails, eyes and the tone of the band,
    _species(
        "990000601",
        "Ombralys caudata",
        "(Specimen, 1921)",
        "tailed duskwing",
        (-4.0, -65.0),
        "BR",
        _sail("tailed", (70, 178, 226), 1),
    ),
    _species(
        "990000602",
        "Ombralys acuta",
        "Specimen, 1921",
        "pointed duskwing",
        (-7.0, -75.0),
        "PE",
        _sail("pointed", (238, 196, 96), 0),
    ),
    # and in three petals or six, their tone and the size of the centre.
    _species(
        "990000701",
        "Quistera trifolia",
        "L.Sample",
        "three-pointed quist",
        (36.0, 138.0),
        "JP",
        _bell(3, (156, 84, 206), 0.19),
    ),
    _species(
        "990000702",
        "Quistera sexangula",
        "L.Sample",
        "six-pointed quist",
        (37.5, 128.0),
        "KR",
        _bell(6, (88, 84, 214), 0.11),
    ),
)
