"""A table of uploads that strangers send, by mistake or on purpose, and the status that each gets over real HTTP."""

import io
import socket
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from aitax_ray.serving import guard
from aitax_ray.serving.decoding import PhotoDecoder
from tests.engines import COLOURS, write_small_engine
from tests.images.test_decode import HEIC
from tests.images.test_effort import gif_with, png_with_chunks, run_length_bmp, tiff_with_strips, with_scans
from tests.serving.service import LocalBackend, serve
from tests.serving.test_decoding import write_fragile_decoder
from tests.web import encoded, photo, picture

ORIGIN = {"Origin": "https://herbarium.example"}
RED = encoded(Image.new("RGB", (60, 40), COLOURS["11"]))
BOUNDARY = "b0undary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(body: bytes, name: str = 'name="image"; filename="a.jpg"', kind: str = "image/jpeg") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n"
    head += f"Content-Type: {kind}\r\n" if kind else ""
    return head.encode() + b"\r\n" + body + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def file(body: bytes, name: str = 'name="image"; filename="a.jpg"', kind: str = "image/jpeg") -> dict[str, Any]:
    """A request with one photograph."""
    return {"content": form(part(body, name, kind)), "headers": FORM}


def both(*parts: bytes) -> dict[str, Any]:
    """A request with several parts."""
    return {"content": form(*parts), "headers": FORM}


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    body = bytearray(encoded(picture(), "PNG"))
    body[16:24] = struct.pack(">II", width, height)
    body[29:33] = struct.pack(">I", zlib.crc32(bytes(body[12:29])))
    return bytes(body)


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(5_000_000))
    return buffer.getvalue()


def png_text_bomb() -> bytes:
    """A compressed text of 60 MB in a PNG."""
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(60_000_000))
    body = encoded(picture(), "PNG")
    return body[:33] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + body[33:]


def png_16() -> bytes:
    """Red in 16 bits per channel, which Pillow does not write."""
    rows = b"".join(b"\0" + struct.pack(">HHH", 220 * 257, 30 * 257, 30 * 257) * 40 for _ in range(30))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + tag + content + struct.pack(">I", zlib.crc32(tag + content))
        for tag, content in chunks
    )


def jpeg_with_segments(total: int) -> bytes:
    segment = b"\xff\xe1" + struct.pack(">H", 65_535) + b"x" * 65_533
    return RED[:2] + segment * (total // len(segment)) + RED[2:]


def see_through(form: str) -> bytes:
    image = Image.new("RGBA", (60, 40), (*COLOURS["11"], 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 10))
    return encoded(image, form)


def animated(form: str) -> bytes:
    first, second = (Image.new("RGB", (60, 40), COLOURS[key]) for key in ("11", "33"))
    return encoded(first, form, save_all=True, append_images=[second] * 20)


def chunked(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


UPLOADS: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {
    # Photographs of every kind.
    "JPEG": (200, lambda: file(RED)),
    "progressive JPEG": (200, lambda: file(encoded(picture("a"), progressive=True))),
    "CMYK JPEG": (200, lambda: file(photo("cmyk"))),
    "grey JPEG": (200, lambda: file(encoded(picture().convert("L")))),
    "EXIF rotated": (200, lambda: file(photo("exif6"))),
    "several pictures in a JPEG": (200, lambda: file(photo("mpo"))),
    "PNG": (200, lambda: file(photo("png"))),
    "16-bit PNG in colours": (200, lambda: file(png_16())),
    "16-bit PNG, grey": (200, lambda: file(photo("gray16"))),
    "PNG of one bit": (200, lambda: file(encoded(picture().convert("1"), "PNG"))),
    "palette GIF with transparency": (200, lambda: file(see_through("GIF"))),
    "animated GIF": (200, lambda: file(animated("GIF"))),
    "WebP with transparency": (200, lambda: file(see_through("WEBP"))),
    "animated WebP": (200, lambda: file(animated("WEBP"))),
    "AVIF": (200, lambda: file(photo("avif"))),
    "HEIC": (200, lambda: file(HEIC)),
    "TIFF": (200, lambda: file(photo("tiff"))),
    "BMP": (200, lambda: file(photo("bmp"))),
    "JPEG with 5 MB of metadata": (200, lambda: file(jpeg_with_segments(5_000_000))),
    "JPEG followed by a page": (200, lambda: file(RED + b"<html><script>alert(1)</script>" * 100)),
    "PNG with a text bomb": (200, lambda: file(png_text_bomb())),  # the text is left out
    # Odd forms around a photograph.
    "wrong content type of the part": (200, lambda: file(RED, kind="text/html")),
    "no content type of the part": (200, lambda: file(RED, kind="")),
    "no file name": (200, lambda: file(RED, 'name="image"')),
    "a path as file name": (200, lambda: file(RED, 'name="image"; filename="../../../etc/passwd"')),
    "control characters in the file name": (200, lambda: file(RED, 'name="image"; filename="a\\"\x01\x7f.jpg"')),
    "a file name of 5,000 characters": (400, lambda: file(RED, f'name="image"; filename="{"a" * 5000}"')),
    "chunked": (200, lambda: {"content": chunked(form(part(RED))), "headers": FORM}),
    "other files beside": (200, lambda: both(part(RED), part(b"x", 'name="y"; filename="z"'))),
    "bytes behind the form": (200, lambda: {"content": form(part(RED)) + b"x" * 1000, "headers": FORM}),
    # What is no photograph.
    "text": (415, lambda: file(b"hello")),
    "zero bytes": (415, lambda: file(bytes(1000))),
    "SVG": (415, lambda: file(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')),
    "PDF": (415, lambda: file(b"%PDF-1.7\n" + bytes(1000))),
    "a web page": (415, lambda: file(b"<!doctype html><title>a</title>")),
    "zip bomb": (415, lambda: file(zip_bomb())),
    "video": (415, lambda: file(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(1000))),
    "EPS, which would start a program": (415, lambda: file(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n")),
    "truncated JPEG": (415, lambda: file(photo("jpeg")[:-900])),
    "truncated PNG": (415, lambda: file(photo("png")[:200])),
    "truncated HEIC": (415, lambda: file(HEIC[:400])),
    "a pixel": (415, lambda: file(encoded(Image.new("RGB", (1, 1)), "PNG"))),
    "a strip": (415, lambda: file(encoded(Image.new("RGB", (5000, 16)), "PNG"))),
    # Too large.
    "bomb of 100 megapixels": (413, lambda: file(bomb(10_000, 10_000))),
    "bomb of 4 gigapixels, squared": (413, lambda: file(bomb(2**31 - 1, 2**31 - 1))),
    "JPEG of 200 scans": (413, lambda: file(with_scans(200))),
    "BMP of run lengths": (413, lambda: file(run_length_bmp(8000, 7000))),
    "PNG of 100,000 chunks": (413, lambda: file(png_with_chunks(100_000))),
    "GIF with a head of 2 MB": (413, lambda: file(gif_with(b"!\xfe\x01x\0" * 400_000))),
    "TIFF of 200,000 strips": (413, lambda: file(tiff_with_strips(200_000, "<", big=False))),
    # Nothing, or no form.
    "empty part": (400, lambda: file(b"")),
    "no part": (400, lambda: {"content": form(), "headers": FORM}),
    "no body": (400, lambda: {"headers": FORM}),
    "nothing at all": (400, lambda: {}),
    "6 photographs": (400, lambda: both(*[part(RED)] * 6)),
    "1,000 fields": (400, lambda: both(*[part(b"x", 'name="a"', "")] * 1000)),
    "a field of 1 MB": (400, lambda: both(part(b"x" * 10**6, 'name="a"', ""))),
    "wrong boundary": (400, lambda: file(RED) | {"headers": {"Content-Type": "multipart/form-data; boundary=c"}}),
    "no boundary": (400, lambda: file(RED) | {"headers": {"Content-Type": "multipart/form-data"}}),
    "a form that does not end": (400, lambda: {"content": part(RED), "headers": FORM}),
    "a part without a head": (400, lambda: {"content": f"--{BOUNDARY}".encode() * 500, "headers": FORM}),
    "a head without end": (400, lambda: {"content": f"--{BOUNDARY}\r\n".encode() + b"A" * 10**6, "headers": FORM}),
    "the photograph as the body": (415, lambda: {"content": RED, "headers": {"Content-Type": "image/jpeg"}}),
    "JSON": (415, lambda: {"json": {"image": "https://photos.example/red.jpg"}}),
    "compressed": (400, lambda: {"content": zlib.compress(form(part(RED))), "headers": FORM}),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/identify", "/v2/identify/all"])
@pytest.mark.parametrize("name", UPLOADS)
def test_every_upload_gets_its_status_and_a_reason(service: httpx.Client, name: str, path: str) -> None:
    status, make = UPLOADS[name]
    request = make()
    answer = service.post(path, **request | {"headers": ORIGIN | request.get("headers", {})})
    content = answer.json()
    assert answer.status_code == status, content
    assert answer.headers["access-control-allow-origin"] == "*"  # else a web page sees a network error
    assert answer.headers["content-type"] == "application/json"
    assert b'": ' not in answer.content.replace(content.get("message", "").encode(), b"")  # compact
    if status == 200:
        assert content["results"]
    else:
        assert content.get("code", content.get("statusCode")) == status
        assert 10 < len(content["message"]) < 500
        assert "Traceback" not in answer.text
        assert "/" not in content["message"].replace("multipart/form-data", "").replace("/help", "")  # no paths


def raw(service: httpx.Client, request: bytes) -> bytes:
    """Send bytes that no client would send, and read the beginning of the answer until the connection pauses."""
    with socket.create_connection((service.base_url.host, service.base_url.port or 80), timeout=20) as connection:
        connection.sendall(request)
        connection.settimeout(5)
        return connection.recv(100_000)


POST, HOST = b"POST /identify HTTP/1.1\r\n", b"Host: x\r\n"
RAW = {
    "no HTTP": (400, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"),
    "length that is no number": (400, POST + HOST + b"Content-Length: ten\r\n\r\n"),
    "negative length": (400, POST + HOST + b"Content-Length: -5\r\n\r\n"),
    "two lengths": (400, POST + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "length of a petabyte": (413, POST + HOST + b"Content-Length: 1000000000000000\r\n\r\n"),
    "chunks that are none": (400, POST + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "an address of 50 KB": (414, b"GET /status?x=" + b"y" * 50_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an address of 100 KB": (400, b"GET /status?x=" + b"y" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "200 headers": (431, b"GET /status HTTP/1.1\r\n" + HOST + b"X-Y: z\r\n" * 200 + b"\r\n"),
    "a header of 1 MB": (431, b"GET /status HTTP/1.1\r\n" + HOST + b"X-Y: " + b"z" * 1_000_000 + b"\r\n\r\n"),
    "a path with dots": (404, b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_no_client_sends_are_answered(service: httpx.Client, name: str) -> None:
    status, request = RAW[name]
    head = raw(service, request).split(b"\r\n")[0]
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    assert service.get("/healthz").status_code == 200


PATHS = ["/identify", "/status", "/taxa", "/help", "/healthz", "/v2/_status", "/v2/languages", "/v2/species", "/docs"]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_wherever_get_is_and_other_methods_name_those_allowed(
    service: httpx.Client, path: str
) -> None:
    got, head = service.get(path), service.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    refused = service.request("PATCH", path, headers=ORIGIN)
    assert refused.status_code == 405
    assert {"GET", "HEAD"} <= set(refused.headers["allow"].split(", "))
    assert ("POST" in refused.headers["allow"]) == (path == "/identify")
    assert refused.headers["access-control-allow-origin"] == "*"
    assert refused.json()["message"]


def test_a_client_that_trickles_is_answered_and_disconnected(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 0.2)
    head = (
        b"POST /identify HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\nContent-Type: multipart/form-data; boundary=b"
    )
    with socket.create_connection((service.base_url.host, service.base_url.port or 80), timeout=20) as connection:
        connection.sendall(head + b"\r\nOrigin: https://x.example\r\n\r\n--b\r\n")
        answer = b""
        while more := connection.recv(10_000):
            answer += more
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"access-control-allow-origin: *" in answer
    assert answer.endswith(b'"message":"the photographs did not arrive in time"}')


def test_the_decoder_of_a_client_that_leaves_is_free_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fragile_decoder(tmp_path, monkeypatch)
    backend = LocalBackend(write_small_engine(tmp_path / "colours-1"))
    backend.decoder = PhotoDecoder(backend.info, num_decoders=1, timeout_s=600.0)
    for client in serve(backend):
        body = form(part(b"HANG"))
        head = POST + HOST + f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
            connection.sendall(head + body)
            wait_until(lambda: backend.decoder._num_waiting == 1)
        wait_until(lambda: backend.decoder._num_waiting == 0)
        assert client.post("/identify", **file(RED)).status_code == 200


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)
