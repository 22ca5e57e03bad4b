"""Recognise the format of a file from its bytes, never from what a server says. Pure; reads only the first bytes."""

HTML = "html"
SVG = "svg"
PDF = "pdf"
IIIF_MANIFEST = "iiif_manifest"
NOT_AN_IMAGE = "not_an_image"

# Every reason with its meaning.
REASONS = {
    HTML: "a web page",
    SVG: "a drawing, in SVG",
    PDF: "a document, in PDF",
    IIIF_MANIFEST: "a IIIF description of images, not an image",
    NOT_AN_IMAGE: "not in a format of photographs: text, data, sound, video, a camera's raw file",
}

HEAD_BYTES = 8192  # read to recognise a format
SIGNATURE_BYTES = 256  # at most so many are needed to recognise a photograph

# First bytes of a format -> Pillow's name for it. MPO files begin with a JPEG.
SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
}
BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # bytes; "BM" alone may begin a text
# Brands of files that begin with a box "ftyp", as videos do (https://mp4ra.org/registered-types/brands).
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
ANY_CODEC_BRANDS = frozenset({b"mif1", b"msf1"})

# Elements by which browsers recognise a page (https://mimesniff.spec.whatwg.org), and others at the start of pages.
HTML_ELEMENTS = " html head body script iframe h1 div font table a style title b br p meta link center noscript "
# In JSON without blanks and "@context": types of IIIF versions 2 and 3, and descriptions of one image.
IIIF_WORDS = ('"@type":"sc:', '"type":"manifest"', '"type":"imageservice', '"protocol":"http://iiif.io/api/image"')
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
BLANK = " \t\r\n\f\v\0\ufeff"


def photo_format(body: bytes | bytearray) -> str:
    """Return Pillow's name of the format whose signature the bytes have; "" if they are no photograph."""
    for signature, name in SIGNATURES.items():
        if body.startswith(signature):
            return name
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "WEBP"
    if body[:2] == b"BM" and int.from_bytes(body[14:18], "little") in BMP_HEADERS:
        return "BMP"
    return _brand(bytes(body[:SIGNATURE_BYTES])) if body[4:8] == b"ftyp" else ""


def is_ended(first: bytes, last: bytes, num_bytes: int) -> bool:
    """Tell from the first and last bytes of a file and its size whether the photograph in it is complete."""
    if first[:4] == b"RIFF":
        return len(first) >= 8 and num_bytes >= int.from_bytes(first[4:8], "little") + 8
    return last.endswith((b"\xff\xd9", b"IEND\xaeB`\x82")) or (first[:4] == b"GIF8" and last.endswith(b"\0;"))


def recognise(body: bytes | bytearray) -> str:
    """Choose the reason (see REASONS) for bytes that are not a photograph."""
    text = _text(bytes(body[:HEAD_BYTES]))
    if text.startswith("<"):
        return _markup(text)
    if text.startswith(("{", "[")):
        return IIIF_MANIFEST if _is_iiif(text) else NOT_AN_IMAGE
    if b"%PDF-" in body[:1024]:  # readers search it there
        return PDF
    # A page may begin with warnings of the program that made it.
    return HTML if "<html" in text or "<!doctype html" in text else NOT_AN_IMAGE


def _brand(head: bytes) -> str:
    """Return the format of a file's brand. If any codec may have that brand, the compatible brands decide."""
    brand, end = head[8:12], min(int.from_bytes(head[:4], "big"), len(head))
    if brand in ANY_CODEC_BRANDS:
        compatible = {head[i : i + 4] for i in range(16, end, 4)}
        return "AVIF" if compatible & AVIF_BRANDS else "HEIF"
    return "AVIF" if brand in AVIF_BRANDS else "HEIF" if brand in HEVC_BRANDS else ""


def _text(head: bytes) -> str:
    """Decode the beginning as lower-case text. Only ASCII matters."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
    if head[1:2] == head[3:4] == b"\0":
        encoding = "utf-16-le"
    elif head[:1] == head[2:3] == b"\0":
        encoding = "utf-16-be"
    return head.decode(encoding, "replace").lstrip(BLANK).lower()


def _markup(text: str) -> str:
    """Choose a reason by the doctype or the first element. Declarations and comments are skipped."""
    begin = 0
    while text.startswith("<", begin):
        if text.startswith("<!--", begin):
            end = text.find("-->", begin + 4)
            if end < 0:
                return HTML  # as in browsers
            end += 3
        elif text.startswith(("<?", "<!"), begin):
            if text.startswith("<!doctype", begin) and (name := _name(text, begin + len("<!doctype"))) in (HTML, SVG):
                return name
            end = text.find(">", begin) + 1
            if not end:
                return NOT_AN_IMAGE
        else:
            name = _name(text, begin + 1)
            return HTML if f" {name} " in HTML_ELEMENTS else SVG if name == SVG else NOT_AN_IMAGE
        while end < len(text) and text[end] in BLANK:
            end += 1
        begin = end
    return NOT_AN_IMAGE


def _name(text: str, begin: int) -> str:
    """Return the element name at a position, without the prefix of its namespace."""
    words = text[begin : begin + 64].lstrip(BLANK)
    for end in ">/[":
        words = words.partition(end)[0]
    return words.split(maxsplit=1)[0].rpartition(":")[2] if words.strip() else ""


def _is_iiif(text: str) -> bool:
    """Whether the beginning of a JSON text shows a IIIF manifest, collection or image description."""
    dense = "".join(text.split()).replace("\\/", "/")
    _, found, context = dense.partition('"@context":')
    if found:
        context = context.partition("]" if context.startswith("[") else ",")[0]
        if "iiif.io/api/" in context or "/iiif/image-api/" in context or "shared-canvas.org" in context:
            return True
    return any(words in dense for words in IIIF_WORDS)
