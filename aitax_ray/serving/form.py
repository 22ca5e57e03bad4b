"""Reads a multipart/form-data body: its photographs and its fields, as lenient as clients are different.

A part is a photograph if its name is `image` or `images`, whether or not it has a file name or a type: some clients
send neither, and only its bytes say what it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from aitax_ray.errors import RequestError
from aitax_ray.serving.identifier import MAX_IMAGES

PHOTOGRAPHS = frozenset({"image", "images"})
KINDS = ("multipart/form-data", "application/x-www-form-urlencoded")
MAX_FIELDS = 100
MAX_FIELD_LENGTH = 10_000  # characters


@dataclass(frozen=True)
class Upload:
    """An uploaded photograph."""

    filename: str
    """As the client gives it, "" if it gives none."""
    body: bytes


@dataclass
class Form:
    """The parts of a body."""

    photographs: list[Upload] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)
    """The values of each name, in the order of the body."""
    num_parts: int = 0

    def last(self) -> Mapping[str, str]:
        """The last value of each field."""
        return {name: values[-1] for name, values in self.fields.items()}

    def add_field(self, part: Field) -> None:
        """Add a part without a file name."""
        name, value = _text(part.field_name), part.value or b""
        if name in PHOTOGRAPHS:
            self._add_photograph(Upload("", value))
            return
        if len(value) > MAX_FIELD_LENGTH:
            raise RequestError(f"the field {name} has more than {MAX_FIELD_LENGTH:,} characters")
        self._count()
        self.fields.setdefault(name, []).append(_text(value))

    def add_file(self, part: File) -> None:
        """Add a part with a file name; only photographs are kept."""
        part.file_object.seek(0)
        if _text(part.field_name) in PHOTOGRAPHS:
            self._add_photograph(Upload(_text(part.file_name), part.file_object.read()))
            part.close()
        else:
            self._count()

    def _add_photograph(self, upload: Upload) -> None:
        if len(self.photographs) == MAX_IMAGES:
            raise RequestError(f"send 1 to {MAX_IMAGES} photographs of one individual, not more")
        self.photographs.append(upload)

    def _count(self) -> None:
        self.num_parts += 1
        if self.num_parts > MAX_FIELDS:
            raise RequestError(f"the form has more than {MAX_FIELDS} fields")


async def read_form(request: Request) -> Form:
    """Read the body of a request. Raises RequestError when it is no form: 415 by its type, 400 by its content."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = Form()
    if kind.decode("latin-1") not in KINDS:
        message = "send the photographs as parts `image` of a multipart/form-data body"
        raise RequestError(message, 415 if kind else 400)
    try:
        parser = FormParser(
            kind.decode("latin-1"),
            form.add_field,
            form.add_file,
            boundary=options.get(b"boundary"),
            config={"MAX_MEMORY_FILE_SIZE": inf},  # the limit of the body holds
        )
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(f"the body is no valid form ({' '.join(str(error).split())[:200]})") from error
    # The parser is part of a reference cycle, which Python collects late. It must not hold photographs.
    photographs, form.photographs = form.photographs, []
    return replace(form, photographs=photographs)


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
