"""serving.form: bodies as clients put them on the wire."""

from collections.abc import Sequence

import pytest
from fastapi import Request

from aitax_ray.errors import RequestError
from aitax_ray.serving.form import MAX_FIELD_LENGTH, MAX_FIELDS, Form, Upload, read_form

BOUNDARY = "--------------------------6e52a0b0ece31697fc1d43eb"


def part(name: str, content: bytes, filename: str | None = None, kind: str | None = None) -> bytes:
    """A part; without file name or type where they are None."""
    shown = "" if filename is None else f'; filename="{filename}"'
    headers = f'Content-Disposition: form-data; name="{name}"{shown}\r\n'
    headers += f"Content-Type: {kind}\r\n" if kind else ""
    return f"--{BOUNDARY}\r\n{headers}\r\n".encode() + content + b"\r\n"


async def read(*parts: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}", chunk: int = 7) -> Form:
    return await read_body(b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), kind, chunk)


async def read_body(body: bytes, kind: str, chunk: int = 7) -> Form:
    messages = [
        {"type": "http.request", "body": body[start : start + chunk], "more_body": True}
        for start in range(0, len(body), chunk)
    ]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    return await read_form(Request({"type": "http", "headers": [(b"content-type", kind.encode())]}, receive))


PHOTO = bytes(range(256)) + b"\r\n--"


@pytest.mark.parametrize("name", ["image", "images"])
@pytest.mark.parametrize(
    ("filename", "kind"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.jpg", "image/jpg"),
        ("data/heliconius_melpomene/a.jpg", None),
        ("../data/image_1.jpeg", None),
        ("k1", "image/jpeg"),
        ("name", "application/octet-stream"),
        ("", None),
        (None, None),
        (None, "image/jpeg"),
    ],
)
async def test_a_photograph_is_known_by_the_name_of_its_part_alone(
    name: str, filename: str | None, kind: str | None
) -> None:
    form = await read(part(name, PHOTO, filename, kind))
    assert form.photographs == [Upload(filename or "", PHOTO)]
    assert form.fields == {}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (0, 2, 1, 3), (2, 0, 3, 1)])
async def test_fields_stand_before_after_or_between_photographs(order: Sequence[int]) -> None:
    parts = [
        part("organs", b"leaf"),
        part("organs", "fl\u00e9ur".encode()),
        part("images", b"1", "a"),
        part("images", b"2", "b"),
    ]
    form = await read(*(parts[place] for place in order))
    assert [upload.body for upload in form.photographs] == [b"1", b"2"]
    assert form.fields == {"organs": ["leaf", "fl\u00e9ur"]}


async def test_a_form_without_photographs_may_be_url_encoded() -> None:
    form = await read_body(b"size=224x224&tile_size=518&lang=fr&lang=", "application/x-www-form-urlencoded")
    assert form.fields == {"size": ["224x224"], "tile_size": ["518"], "lang": ["fr", ""]}


async def test_files_that_are_no_photographs_are_ignored() -> None:
    form = await read(part("notes", b"x" * 100_000, "notes.txt", "text/plain"), part("image", b"1", "a"))
    assert (form.photographs, form.fields) == ([Upload("a", b"1")], {})


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{}", "application/json", "multipart/form-data"),
        (b"\xff\xd8", "image/jpeg", "multipart/form-data"),
        (b"x", "", "multipart/form-data"),
        (b"x", "multipart/form-data", "no valid form"),
        (b"x", f"multipart/form-data; boundary={'b' * 300}", "no valid form"),
        (b"x", f"multipart/form-data; boundary={BOUNDARY}", "no valid form"),
        (part("", b"1").replace(b' name=""', b""), f"multipart/form-data; boundary={BOUNDARY}", "no valid form"),
    ],
)
async def test_what_is_no_form_is_refused_with_the_reason(body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        await read_body(body, kind)
    assert caught.value.status == (415 if kind in ("application/json", "image/jpeg") else 400)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([part("image", b"1", "a")] * 6, "1 to 5 photographs"),
        ([part("image", b"1")] * 6, "1 to 5 photographs"),
        ([part("x", b"1")] * (MAX_FIELDS + 1), "more than 100 fields"),
        ([part("x", b"1", "file")] * (MAX_FIELDS + 1), "more than 100 fields"),
        ([part("x", b"1" * (MAX_FIELD_LENGTH + 1))], "more than 10,000 characters"),
    ],
)
async def test_a_form_that_is_too_large_is_refused_with_the_reason(parts: list[bytes], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        await read(*parts, chunk=1000)
