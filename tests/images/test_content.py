import random
import time

import pytest

from aitax_ray.images.content import REASONS, photo_format, recognise
from tests.web import photo

PAGE = "<html><head><title>Gone</title></head></html>"
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400"/>'
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
SVG_DOCTYPE = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd" [ <!ENTITY ns "http://x"> ]>'
XHTML_DOCTYPE = '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/x.dtd">'


@pytest.mark.parametrize(
    "text",
    [
        "<!doctype html><title>Please accept our terms</title>",
        "<!DOCTYPE HTML>",
        PAGE,
        "<HTML>",
        "<html",
        "<head><body>",
        '<body class="x">',
        f"\r\n\t  {PAGE}",
        f"<!-- made by > something -->\n<!----><!-- again -->{PAGE}",
        f"<!-- {'a comment without end ' * 1000}{PAGE}",
        f"{DECLARATION}\n{XHTML_DOCTYPE}\n{PAGE}",
        f'{DECLARATION}<html xmlns="http://www.w3.org/1999/xhtml">',
        "<!doctype\nhtml\n>",
        "<script>location = '/login'</script>",
        "<br />\n<b>Warning</b>:  mysql_connect() failed",
        f"PHP Warning: mysql_connect() failed\n{PAGE}",
        f"<!doctype html>{DRAWING}",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_web_pages_are_known_whatever_they_begin_with(text: str, encoding: str) -> None:
    assert recognise(text.encode(encoding)) == "html"


@pytest.mark.parametrize(
    "text",
    [
        DRAWING,
        f"  {DECLARATION}\n<!-- Generator: some program > 1.0 -->\n{SVG_DOCTYPE}\n{DRAWING}",
        f"{DECLARATION}<!-- html -->{DRAWING}",
        f"<!-- only a comment -->{DRAWING}",
        '<?xml-stylesheet href="style.css"?><svg:svg xmlns:svg="http://www.w3.org/2000/svg">',
        "<SVG>",
        "<svg><foreignObject><html/></foreignObject></svg>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_drawings_are_known_whatever_they_begin_with(text: str, encoding: str) -> None:
    assert recognise(text.encode(encoding)) == "svg"


@pytest.mark.parametrize(
    "text",
    [
        '{"@context": "http://iiif.io/api/presentation/2/context.json", "@type": "sc:Manifest", "label": "Rosa"}',
        '\n {\n "@context" : "http://iiif.io/api/presentation/3/context.json",\n "type": "Manifest"}',
        '{"@context": ["http://www.w3.org/ns/anno.jsonld", "http://iiif.io/api/presentation/3/context.json"]}',
        '{"@context":"http:\\/\\/iiif.io\\/api\\/presentation\\/2\\/context.json"}',
        '{"@context": "http://iiif.io/api/image/2/context.json", "protocol": "http://iiif.io/api/image"}',
        '{"@context": "http://library.stanford.edu/iiif/image-api/1.1/context.json", "width": 4000}',
        '{"@context": "http://www.shared-canvas.org/ns/context.json"}',
        '{"protocol": "http://iiif.io/api/image", "width": 4000, "height": 3000}',
        '{"id": "https://a.example/iiif/1", "type": "ImageService3", "profile": "level2"}',
        '{"id": "https://a.example/1.json", "type": "Manifest", "label": {"en": ["Rosa"]}}',
        '{"@id": "https://a.example/1.json", "@type": "sc:Collection"}',
        '[{"@context": "http://iiif.io/api/presentation/2/context.json"}]',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_iiif_is_known_by_its_context_or_type(text: str, encoding: str) -> None:
    assert recognise(text.encode(encoding)) == "iiif_manifest"
    rest = ', "items": [' + "{}," * 100_000
    assert recognise((text[:-1] + rest).encode(encoding)) == "iiif_manifest"


@pytest.mark.parametrize(
    "body", [b"%PDF-1.7\n%\xe2\xe3", b"\n\n%PDF-1.4", b"\xef\xbb\xbf%PDF-1.4", b"x" * 900 + b"%PDF-1.4"]
)
def test_pdf_is_known_where_readers_look_for_it(body: bytes) -> None:
    assert recognise(body) == "pdf"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"\0" * 5000,
        b"\xff" * 5000,
        b"\xff\xfe",
        b"<",
        b"<!",
        b"<!doctype",
        b"<>",
        b"< ",
        b"</",
        b"<?xml",
        b"Not found",
        b"gbifID\ttitle\n1\tRosa",
        b'{"error": "see <html> for http://iiif.io/api/image"}',
        b'{"@context": "https://schema.org", "manifest": "http://iiif.io/api/presentation/2/context.json"}',
        b"[]",
        DECLARATION.encode() + b'<rss version="2.0"><channel/></rss>',
        b"<Error><Code>AccessDenied</Code></Error>",
        b"<htmlish/>",
        b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"RIFF\x24\0\0\0AVI LIST",
        b"BM is how this text begins",
        b"PK\x03\x04",
        b"\x1f\x8b\x08\0",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"FUJIFILMCCD-RAW 0201",
    ],
)
def test_anything_else_is_not_an_image(body: bytes) -> None:
    assert photo_format(body) == ""
    assert recognise(body) == "not_an_image"
    assert recognise(bytearray(body)) == "not_an_image"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "mpo", "avif"])
def test_photographs_are_known_by_their_signature(kind: str) -> None:
    expected = "JPEG" if kind == "mpo" else kind.upper()
    assert photo_format(photo(kind)) == photo_format(bytearray(photo(kind)[:40])) == expected


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIF"),
        (b"mif1\0\0\0\0mif1heic", "HEIF"),
        (b"mif1\0\0\0\0mif1avif", "AVIF"),
        (b"msf1\0\0\0\0avis", "AVIF"),
        (b"avif\0\0\0\0mif1miaf", "AVIF"),
        (b"isom\0\0\0\0mp41", ""),
        (b"qt  \0\0\0\0", ""),
    ],
)
def test_brands_distinguish_photographs_from_videos(brands: bytes, expected: str) -> None:
    assert photo_format((len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + b"avifheic") == expected


def test_no_bytes_whatever_raise_or_take_long() -> None:
    rng = random.Random(1)
    pieces = [
        b"<",
        b"<!--",
        b"-->",
        b"<!doctype",
        b"<?xml",
        b">",
        b"[",
        b"{",
        b'"@context":',
        b"html",
        b"svg",
        b" ",
        b"\0",
    ]
    pieces += [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"%PDF-", b"ftyp", b":"]
    bodies = [b"".join(rng.choices(pieces, k=rng.randrange(12))) for _ in range(3000)]
    bodies += [piece * 10**6 for piece in pieces] + [b"<!---->" * 10**6, b"<" + b" " * 10**7]
    begin = time.process_time()
    found = {recognise(body) for body in bodies}
    assert time.process_time() - begin < 5  # a hundredth of it is usual
    assert found <= set(REASONS)
    assert {"html", "svg", "pdf", "not_an_image"} <= found
