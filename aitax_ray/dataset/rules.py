"""Rules for photographs that show no organism, one row per rule.

They were made from what stands in real archives: 3 % of one were pages of ledgers, 3 % of another sonograms. Words
count where they are all of the title or of the description, but for a word before them or what they are of: "Label",
"photo of the label" and "pencil drawing of a beetle" are one, "Rosa canina, with label" is none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aitax_ray.dataset.reasons import BOOK_PAGE, DRAWING, LABEL, NEAR_UNIFORM, SONOGRAM, THUMBNAIL

if TYPE_CHECKING:
    import polars as pl

MIN_SIDE = 128  # px


@dataclass(frozen=True)
class Rule:
    """A photograph is left out for `reason` when all that the rule says applies."""

    reason: str
    urls: tuple[str, ...] = ()  # hosts, with all below them, each with the beginning of a path if any
    words: str = ""  # in its title or description: a regular expression for one or several
    below_contrast: float = 0.0  # see schemas.IMAGES
    is_small: bool = False  # its longer side is below the limit


RULES = (
    # archive.org keeps copies of anything. Only its servers of book pages, by their ways to a page, show that.
    Rule(
        BOOK_PAGE,
        urls=(
            "archive.org/(?:download/[^/]+/page/|BookReader/)",
            "biodiversitylibrary.org/(?:page|pageimage|pagethumb|api)",
            "babel.hathitrust.org/cgi/imgsrv",
            "gallica.bnf.fr/ark:",
        ),
    ),
    Rule(BOOK_PAGE, words=r"(book|ledger|catalogue|catalog|register|notebook) pages?|field ?(notes|notebook|book)s?"),
    Rule(SONOGRAM, urls=("xeno-canto.org/",)),
    Rule(SONOGRAM, words=r"sonogram(me)?s?|spectrogram(me)?s?|oscillogram(me)?s?"),
    Rule(THUMBNAIL, is_small=True),
    Rule(NEAR_UNIFORM, below_contrast=3.0),
    Rule(
        LABEL,
        words=r"(specimen |herbarium |collection |determination )?labels?( data)?|etikett(en)?|étiquettes?|etiquetas?",
    ),
    Rule(LABEL, words=r"(index|catalogue|catalog|accession|specimen) cards?|barcode"),
    Rule(
        DRAWING,
        words=r"drawings?|illustrations?|engravings?|lithographs?|woodcuts?|watercolou?rs?|paintings?|sketch(es)?|"
        r"zeichnung(en)?|dessins?|dibujos?|ilustraci(ó|o)n(es)?|aquarelles?|tekening(en)?",
    ),
)  # fmt: skip


def broken_rule(min_side: int) -> "pl.Expr":
    """The reason of the first rule that applies, "" for none, from url, title, description, contrast, width, height.

    `min_side` is the limit for the longer side in px.
    """
    import polars as pl

    return pl.coalesce(*(pl.when(_applies(rule, min_side)).then(pl.lit(rule.reason)) for rule in RULES), pl.lit(""))


def _applies(rule: Rule, min_side: int) -> "pl.Expr":
    import polars as pl

    conditions = []
    if rule.urls:
        places = [url.partition("/") for url in rule.urls]
        where = "|".join(rf"{host.replace('.', chr(92) + '.')}(?::\d*)?/{path}" for host, _, path in places)
        conditions.append(pl.col("url").str.contains(rf"^(?i)https?://(?:[^/?#]*@)?(?:[^/?#@]*\.)?(?:{where})"))
    if rule.words:
        of = r"(?:(?:image|photo|photograph|picture|scan|detail|close-?up)s? of )?(?:the |an? )?"
        pattern = rf"^(?i)\W*{of}(?:\w+ )?(?:{rule.words})(?:\W*$|\s+(?:of|by)\b)"
        conditions.append(pl.any_horizontal(pl.col("title", "description").str.contains(pattern)))
    if rule.below_contrast:
        conditions.append(pl.col("contrast") < rule.below_contrast)
    if rule.is_small:
        conditions.append(pl.max_horizontal("width", "height") < min_side)
    return pl.all_horizontal(conditions).fill_null(value=False)
