"""`aitax identify`: asks an engine in this process, or a running service, and shows a table or JSON."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aitax_ray.errors import AitaxError, RequestError, SettingsError
from aitax_ray.serving.assessment import Assessment
from aitax_ray.serving.c4c import C4cAnswer, C4cError, C4cImage, to_answer
from aitax_ray.text import escape_controls

if TYPE_CHECKING:
    from rich.text import Text

TIMEOUT_S = 120
VARIABLE = "AITAX_KEY"  # the key for a service; a flag would stand in the history of the shell


def identify_files(
    photos: Sequence[Path],
    *,
    engine: str | None,
    url: str | None,
    together: bool,
    max_results: int,
    as_json: bool,
    num_illustrations: int = 6,
    no_reject: bool = False,
) -> None:
    """Identify each file, or all of them together, and print the answers.

    Among several files, those that cannot be used are named on stderr, the others are answered, and AitaxError at the
    end says how many failed. A single question raises its RequestError. Raises SettingsError unless exactly one of
    `engine` and `url` is given.
    """
    if (engine is None) == (url is None):
        raise SettingsError("give either --engine (a folder) or --url (a running service)")
    if max_results < 1:
        raise SettingsError("--max-results must be 1 or more")
    if num_illustrations < 0:
        raise SettingsError("--num-illustrations must be 0 or more")
    asked = Asked(max_results, num_illustrations, no_reject)
    client = EngineClient(engine, asked) if engine is not None else ServiceClient(str(url), asked)
    groups = [list(photos)] if together else [[photo] for photo in photos]
    num_failed = 0
    with contextlib.closing(client):
        for group in groups:
            try:
                show(group, client.ask(group), as_json)
            except RequestError as error:
                if len(groups) == 1:
                    raise
                num_failed += len(group)
                sys.stderr.write(f"aitax: {escape_controls(str(error))}\n")
    if num_failed:
        raise AitaxError(f"{num_failed} of {len(photos)} photographs could not be identified")


@dataclass(frozen=True)
class Asked:
    """What the answers shall have."""

    max_results: int
    num_illustrations: int
    no_reject: bool


class EngineClient:
    """Answers from an engine in this process."""

    def __init__(self, location: str, asked: Asked) -> None:
        from aitax_ray.engine.bundle import open_engine
        from aitax_ray.serving.decoding import PhotoDecoder
        from aitax_ray.serving.identifier import Identifier

        engine = open_engine(location)
        self._identifier, self._asked = Identifier(engine), asked
        self._decoder = PhotoDecoder(engine.info, num_decoders=1)

    def ask(self, photos: Sequence[Path]) -> C4cAnswer:
        """Identify one individual from photographs of it."""
        decoded = [asyncio.run(self._decoder.decode(_read(photo), str(photo))) for photo in photos]
        found = self._identifier.identify(decoded, self._asked.max_results, self._asked.num_illustrations)
        return to_answer(found, no_reject=self._asked.no_reject)

    def close(self) -> None:
        """Stop the process that decodes."""
        self._decoder.close()


class ServiceClient:
    """Answers from a running service."""

    def __init__(self, url: str, asked: Asked) -> None:
        self._url, self._asked = url.rstrip("/"), asked

    def ask(self, photos: Sequence[Path]) -> C4cAnswer:
        """Identify one individual from photographs of it."""
        import httpx

        parts = [("image", (photo.name, _read(photo))) for photo in photos]
        try:
            asked = {"nb-results": self._asked.max_results, "no-reject": self._asked.no_reject}
            key = os.environ.get(VARIABLE, "").strip()
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            address = f"{self._url}/identify"
            answer = httpx.post(address, params=asked, headers=headers, files=parts, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AitaxError(
                f"no answer from {self._url} ({error}): is the service running? `aitax serve` starts one"
            ) from error
        try:
            if answer.status_code == httpx.codes.OK:
                found = C4cAnswer.model_validate_json(answer.content)
                for result in found.results:
                    del result.images[self._asked.num_illustrations :]
                return found
            message = C4cError.model_validate_json(answer.content).message
        except ValueError as error:
            raise AitaxError(
                f"{self._url} answers ({answer.status_code} {answer.reason_phrase}), but not as `aitax serve` does: "
                "check --url"
            ) from error
        raise RequestError(f"{', '.join(map(str, photos))}: {message}", answer.status_code)

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""


def _read(photo: Path) -> bytes:
    from aitax_ray.serving.decoding import MAX_BYTES

    try:
        if photo.stat().st_size > MAX_BYTES:
            raise RequestError(f"{photo} cannot be used: it has more than {MAX_BYTES:,} bytes", 413)
        return photo.read_bytes()
    except OSError as error:
        raise RequestError(f"{photo} cannot be read: {error.strerror}") from error


def show(photos: Sequence[Path], answer: C4cAnswer, as_json: bool) -> None:
    """Print an answer: a line of JSON, or a table of score, species, family and similar photographs."""
    if as_json:
        content = {"photos": [str(photo) for photo in photos], **answer.model_dump(by_alias=True)}
        sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    title = _text(", ".join(photo.name for photo in photos))
    table = Table(title=title, title_justify="left", show_lines=True)
    for heading in ("score", "species", "family", "similar photographs: similarity, author, licence, addresses"):
        table.add_column(heading, justify="right" if heading == "score" else "left", overflow="fold")
    for result in answer.results:
        name = _text(result.name, "italic") + _text(f" {result.authorship}".rstrip())
        if result.is_added:
            name += _text("\nadded without training: take care")
        if result.vernacularName:
            name += _text(f"\n{result.vernacularName}")
        images = [_credit(image) for image in result.images]
        table.add_row(f"{100 * result.score:.1f} %", name, _text(result.family), _text("\n".join(images)))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    lines = [answer.message, *_verdict(answer.assessment)]
    if not answer.results and not answer.assessment.is_known and answer.assessment.name:
        lines.append(f"The nearest that it knows is {answer.assessment.name}; --no-reject lists it.")
    for line in filter(None, lines):
        console.print(_text(line))


def _verdict(assessment: Assessment) -> list[str]:
    """Say in words how far the answer can be believed."""
    lines = []
    if assessment.is_known and (assessment.is_accepted or assessment.rank == "species"):
        lines.append(f"Of answers like this one, {100 * assessment.precision:.0f} % should be right.")
    elif assessment.is_known and assessment.rank in ("genus", "family"):
        chance = f"{100 * assessment.score:.0f} %"
        lines.append(f"The species is not certain. The {assessment.rank} is: {assessment.name} ({chance}).")
    if assessment.is_known and assessment.lookalikes:
        lines.append(f"The engine cannot separate it from {', '.join(assessment.lookalikes)}.")
    return lines


def _credit(image: C4cImage) -> str:
    authors = dict.fromkeys((image.rights_holder, image.creator, image.publisher))
    parts = (f"{image.similarity:.2f}", *authors, image.license or "licence unknown", image.url, image.occurrence)
    return ", ".join(filter(None, parts))


def _text(content: str, style: str = "") -> "Text":
    """Make text for rich in which brackets are no markup and no character controls the terminal."""
    from rich.text import Text

    return Text("\n".join(map(escape_controls, content.split("\n"))), style)
