"""The page for people: answers and the list of species as HTML, in the visitor's language. No Ray, no HTTP.

The files are in serving/web_page/: templates, one style sheet, one script, and the texts, one file per language. The
page works without the script. With it, the form is sent in the background. The answer, which is the same HTML, is put
into the page.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aitax_ray.engine.documents import DATA_CARD, MODEL_CARD, REPORT
from aitax_ray.evaluation.figures import FEW
from aitax_ray.licenses import UNKNOWN, deed, normalise
from aitax_ray.serving.identifier import MAX_IMAGES, Candidate, Identification
from aitax_ray.serving.languages import common_names
from aitax_ray.web import web_address

if TYPE_CHECKING:
    from PIL import Image

    from aitax_ray.engine.bundle import Taxon
    from aitax_ray.engine.documents import SpeciesFigures
    from aitax_ray.engine.info import EngineInfo
    from aitax_ray.serving.assessment import Kept
    from aitax_ray.serving.citation import Reference
    from aitax_ray.serving.findings import Illustration

FOLDER = Path(__file__).parent / "web_page"
BASE = "./"  # all pages lie beside each other, whatever the address of the service is
DEFAULT_LANGUAGE = "en"
LIKELY = 0.5
ROWS = 100  # species on a page of the list
BY_NAME, BY_ACCURACY = "", "accuracy"  # orders of the list
# The pages of an engine -> their addresses.
DOCUMENTS = {DATA_CARD: "data-card", REPORT: "evaluation", MODEL_CARD: "model-card"}
SHOWN = 480  # px, longer side of the visitor's photographs in an answer
GBIF_SPECIES = "https://www.gbif.org/species/"
# A word for each range of scores, from its lower end on.
WORDS = ((0.95, "almost_certain"), (0.8, "very_likely"), (LIKELY, "likely"), (0.2, "possible"), (0.0, "unlikely"))
# The texts that the script needs.
SCRIPT_TEXTS = (
    *("no_picture", "too_many", "remove", "choose_first", "working", "no_connection", "busy"),
    "your_photograph",
)


@lru_cache
def read_texts() -> dict[str, dict[str, str]]:
    """Read the texts: language (ISO 639-1) -> name of a text -> text."""
    files = sorted((FOLDER / "texts").glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def negotiate(header: str) -> str:
    """Choose a language by the header Accept-Language (RFC 9110, 12.5.4); English if none is known.

    >>> negotiate("fr-CH, de;q=0.9, *;q=0.1"), negotiate("pt, de;q=0.5, es;q=0.8"), negotiate("")
    ('fr', 'es', 'en')
    """
    wanted = []
    for place, part in enumerate(header.split(",")):
        tag, _, weight = part.partition(";q=")
        try:
            wanted.append((-float(weight or 1), place, tag.strip().lower().split("-")[0]))
        except ValueError:
            continue
    return next((code for weight, _, code in sorted(wanted) if code in read_texts() and weight < 0), DEFAULT_LANGUAGE)


class Page:
    """Renders the pages of an engine in one language."""

    def __init__(
        self,
        info: "EngineInfo",
        taxa: "Sequence[Taxon]",
        language: str,
        figures: "Mapping[str, SpeciesFigures] | None" = None,
        *,
        is_keeping: bool = False,
    ) -> None:
        """`figures` are those of the species, by their keys. The page gives notice if `is_keeping` photographs."""
        self._info, self._taxa, self._figures, self._is_keeping = info, taxa, figures or {}, is_keeping
        self._language = language if language in read_texts() else DEFAULT_LANGUAGE
        self._texts = read_texts()[self._language]

    def ask(self, **content: Any) -> str:
        """Render the page with the form, and below it an `answer` (see `answer`), an `error` or a `notice`."""
        texts = json.dumps({name: self._texts[name] for name in SCRIPT_TEXTS}, ensure_ascii=False)
        return self._render(
            "ask.html", path="", texts=texts, max_images=MAX_IMAGES, is_keeping=self._is_keeping, **content
        )

    def answer_part(self, answer: Mapping[str, Any]) -> str:
        """Render an answer alone, for the script."""
        return self._render("answer.html", answer=answer)

    def error_part(self, error: str) -> str:
        """Render an error alone, for the script."""
        return self._render("error.html", error=error)

    def say_deleted(self, *, is_deleted: bool) -> str:
        """Say whether the photographs of a visitor were deleted."""
        return self._say("deleted" if is_deleted else "not_deleted")

    def notice_part(self, notice: str) -> str:
        """Render a notice alone, for the script."""
        return self._render("notice.html", notice=notice)

    def say_failed(self, reason: str) -> str:
        """Say why photographs cannot be used. The reason itself is in English."""
        return self._say("failed", reason=reason)

    def say_busy(self) -> str:
        """Say that the service cannot answer now."""
        return self._say("busy")

    def answer(
        self, identification: Identification, photos: "Sequence[Image.Image]", kept: "Kept | None" = None
    ) -> dict[str, Any]:
        """Turn an identification into what the template shows of it. `kept` deletes the photographs."""
        judgement = identification.judgement
        is_group = judgement.rank in ("genus", "family")
        return {
            "photographs": [_data_url(photo) for photo in photos],
            "is_known": judgement.is_known,
            "is_sure": judgement.is_sure,
            # Of a small engine nobody knows how often such answers are right.
            "is_unmeasured": not judgement.rank and identification.candidates[0].score >= LIKELY,
            "precision": judgement.precision,
            "group_rank": judgement.rank if is_group else "",
            "group_name": judgement.name if is_group else "",
            "group_score": judgement.score,
            "num_candidates": len(judgement.candidates),
            "promise": judgement.promise,
            "lookalikes": judgement.lookalikes,
            "kept": kept,
            "results": [self._result(candidate) for candidate in identification.candidates],
        }

    def about(self, documents: Sequence[str], references: "Sequence[Reference]", bibtex: str) -> str:
        """Render what the engine knows and does not, and how to cite it. `documents` are the pages that it has."""
        figures = list(self._figures.values())
        return self._render(
            "about.html",
            path="about",
            metrics=self._info.metrics,
            num_tested=sum(one.num_test > 0 for one in figures),
            num_untested=len(self._taxa) - sum(one.num_test > 0 for one in figures) if figures else 0,
            num_few=sum(one.num_train < FEW for one in figures),
            few=FEW,
            can_reject=self._info.decisions.rejection.threshold is not None,
            caveats=self._info.caveats,
            documents=[(DOCUMENTS[name], name.partition(".")[0]) for name in documents],
            references=references,
            bibtex=bibtex,
        )

    def species(self, query: str, page: int, order: str = BY_NAME) -> str:
        """Render the list of species whose name has `query` in it; pages are counted from 1."""
        wanted = query.strip().casefold()
        rows = [row for row in self._rows if wanted in row["text"]]
        if order == BY_ACCURACY:  # the hardest first; those that nobody measured come last
            rows.sort(key=lambda row: (row["top1"] is None, row["top1"], -row["num_test"]))
        last = max(1, -(-len(rows) // ROWS))
        page = min(max(1, page), last)

        def address(number: int, by: str = order) -> str:
            asked = {"lang": self._language, "q": query, "page": number, "order": by}
            return f"{BASE}species?{urlencode({name: value for name, value in asked.items() if value != ''})}"

        return self._render(
            "species.html",
            path="species",
            query=query,
            found=len(rows),
            rows=rows[(page - 1) * ROWS : page * ROWS],
            previous=address(page - 1) if page > 1 else "",
            next=address(page + 1) if page < last else "",
            order=order,
            has_figures=bool(self._figures),
            by_name=address(1, BY_NAME),
            by_accuracy=address(1, BY_ACCURACY),
        )

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return sorted(map(self._row, self._taxa), key=lambda row: str(row["name"]))

    def _row(self, taxon: "Taxon") -> dict[str, Any]:
        names, figures = common_names(taxon, self._language), self._figures.get(taxon.species_key)
        return {
            "name": taxon.name,
            "authorship": taxon.authorship,
            "common_name": ", ".join(names),
            "family": taxon.family,
            "num_images": taxon.num_images,
            "num_train": figures.num_train if figures is not None else None,
            "num_test": figures.num_test if figures is not None else 0,
            "top1": figures.top1 if figures is not None else None,
            "is_added": taxon.is_added,
            "link": _species_link(taxon),
            "text": " ".join((taxon.name, taxon.family, *names)).casefold(),
        }

    def _result(self, candidate: Candidate) -> dict[str, Any]:
        taxon = candidate.taxon
        return {
            "key": taxon.species_key,
            "name": taxon.name,
            "authorship": taxon.authorship,
            "common_name": ", ".join(common_names(taxon, self._language)),
            "family": taxon.family,
            "is_added": taxon.is_added,
            "score": candidate.score,
            "word": next(word for limit, word in WORDS if candidate.score >= limit),
            "images": [self._image(image) for image in candidate.illustrations if image.has_thumbnail],
            "link": _species_link(taxon),
        }

    def _image(self, image: "Illustration") -> dict[str, str]:
        license_id = normalise(image.license)
        return {
            # Only thumbnails of this service: a page that shows pictures of others tells them who looks at it.
            "source": f"{BASE}images/{image.image_id}",
            "link": image.occurrence or web_address(image.references) or web_address(image.url),
            "creator": image.rights_holder or image.creator or "?",
            "license": _short(license_id) if license_id != UNKNOWN else image.license or self._say("license_unknown"),
            "license_link": deed(license_id) or web_address(image.license),
            "publisher": image.publisher,
        }

    def _render(self, template: str, **content: Any) -> str:
        info = self._info
        return (
            _environment()
            .get_template(template)
            .render(
                say=self._say,
                number=self._number,
                percent=self._percent,
                language=self._language,
                languages={code: texts["name"] for code, texts in read_texts().items()},
                base=BASE,
                num_species=len(info.classes),
                num_photographs=info.num_indexed,
                top1=info.metrics.get("top1"),
                doi=info.doi,
                citation=info.citation,
                version=info.version,
                **content,
            )
        )

    def _say(self, name: str, /, **values: object) -> str:
        return self._texts[name].format(**values)

    def _number(self, value: int) -> str:
        return f"{value:,}".replace(",", {"en": ",", "de": ".", "es": "."}.get(self._language, "\u202f"))

    def _percent(self, share: float) -> str:
        # 99.96 % is not certainty, and a small share is not nothing.
        shown = "> 99" if 0.995 <= share < 1 else "< 1" if 0 < share < 0.005 else f"{100 * share:.0f}"
        return f"{shown}%" if self._language == "en" else f"{shown}\u00a0%"


@lru_cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _short(license_id: str) -> str:
    """Write the name of a licence as people do: CC BY-NC 4.0, all rights reserved."""
    if license_id.startswith("CC-BY"):
        name, _, version = license_id[3:].rpartition("-") if license_id[-1].isdigit() else (license_id[3:], "", "")
        return f"CC {name} {version}".strip()
    return license_id if license_id[:1].isupper() else license_id.replace("-", " ")


def _species_link(taxon: "Taxon") -> str:
    return GBIF_SPECIES + taxon.species_key if taxon.species_key.isdecimal() else ""


def _data_url(photo: "Image.Image") -> str:
    """A small JPEG of a photograph as an address that needs no request."""
    small = photo.copy()
    small.thumbnail((SHOWN, SHOWN))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
