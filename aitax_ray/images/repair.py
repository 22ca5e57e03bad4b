"""Repair files that Pillow refuses although no pixel is missing: without an end marker, or with damaged metadata.

`repair_variants` returns such a file without the damaged metadata, or with an end. When it returns several files, the
caller decodes all of them: if the pictures differ, pixels are missing and the file cannot be repaired.
"""

import re
import zlib

# Chunks that pixels and colours depend on (https://www.w3.org/TR/png-3/#11Chunks). Others are dropped.
PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT"})
PNG_COLOURS = frozenset({b"tRNS", b"iCCP", b"eXIf"})  # EXIF contains the orientation
PNG_MAX_PROFILE_BYTES = 1 << 20  # Pillow refuses to inflate more
WEBP_PIXELS = frozenset({b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L"})
WEBP_METADATA_FLAGS = 0b0000_1110  # of VP8X: EXIF, XMP, animation

_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # FF 00 in JPEG's coded data is not a marker
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_RESTARTS = range(0xD0, 0xD8)
# Three fillings for the place of missing pixels: nothing, which decoders read as zeros, and two patterns of bits.
_FILLINGS = (b"", b"\xaa" * 64, b"\x35\xc9" * 64)


def repair_variants(body: bytes | bytearray, format_name: str) -> list[bytes]:
    """Repair a file. `format_name` is Pillow's name of its format. Returns [] if the file cannot be repaired."""
    match format_name:
        case "JPEG":
            return _end_jpeg(bytes(body))
        case "PNG":
            return list(filter(None, [_strip_png(bytes(body))]))
        case "WEBP":
            return [_strip_webp(bytes(body))]
    return []


def _end_jpeg(body: bytes) -> list[bytes]:
    """Add different fillings and the end marker. Missing pixels are decoded from the filling, so they differ.

    The filling stands between all eight restart markers, which begin with the one after the last one in the file.
    """
    body = body.rstrip(b"\xff")  # an end marker (FF D9) that was cut in half
    if not _lacks_only_the_end(body):
        return []
    scan = body.rfind(bytes([0xFF, _SCAN]))
    # Without a restart marker the largest number wins, D7, so that D0 is the next one.
    _, mark = max((body.rfind(bytes([0xFF, mark]), scan), mark) for mark in _RESTARTS)
    marks = [bytes([0xFF, 0xD0 + (mark + number) % 8]) for number in range(1, 9)]
    return [body + filling.join([b"", *marks, bytes([0xFF, _END])]) for filling in _FILLINGS]


def _lacks_only_the_end(body: bytes) -> bool:
    """Whether the scans contain all bits of all coefficients of all components, and there is no end marker."""
    components, needed, seen = b"", 0, dict[int, set[int]]()
    position = 2
    while match := _NEXT_MARKER.search(body, position):
        marker, begin = match[1][0], match.end()
        end = begin + int.from_bytes(body[begin : begin + 2], "big")
        segment, position = body[begin + 2 : end], max(end, begin + 2)
        if marker == _END:
            return False
        if marker in _FRAMES and len(segment) > 6:
            # Progressive files spread the 64 coefficients over several scans, others have all of them in one.
            components, needed = segment[6::3], 64 if marker in _PROGRESSIVE else 1
        if marker == _SCAN and segment and len(segment) >= 2 * segment[0] + 4:
            first, last, bits = segment[-3:]
            if bits & 0x0F == 0:  # includes the last bit
                for component in segment[1 : 1 + 2 * segment[0] : 2]:
                    seen.setdefault(component, set()).update(range(first, last + 1))
    return bool(components) and all(len(seen.get(component, ())) >= needed for component in components)


def _strip_png(body: bytes) -> bytes:
    """Keep the signature and the chunks that pixels and colours depend on; b"" where one of these is damaged."""
    parts, position = [body[:8]], 8
    while position + 8 <= len(body):
        length, kind = int.from_bytes(body[position : position + 4], "big"), body[position + 4 : position + 8]
        data, checksum = body[position + 8 :][:length], body[position + 8 + length :][:4]
        is_right = int.from_bytes(checksum, "big") == zlib.crc32(kind + data)
        if kind in PNG_PIXELS:
            if (
                not is_right and kind != b"IDAT"
            ):  # the pixels in IDAT have a checksum of their own, which the decoder verifies
                return b""
            parts.append(_png_chunk(kind, data))
        elif kind in PNG_COLOURS and is_right and (kind != b"iCCP" or _can_be_inflated(data)):
            parts.append(_png_chunk(kind, data))
        position += 12 + length
    return b"".join([*parts, _png_chunk(b"IEND", b"")])


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return b"%b%b%b%b" % (len(data).to_bytes(4, "big"), kind, data, zlib.crc32(kind + data).to_bytes(4, "big"))


def _can_be_inflated(profile: bytes) -> bool:
    try:
        inflated = zlib.decompressobj().decompress(profile.partition(b"\0")[2][1:], PNG_MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return len(inflated) < PNG_MAX_PROFILE_BYTES


def _strip_webp(body: bytes) -> bytes:
    """Keep the complete chunks of a still picture, without metadata and animation, and correct the size of the file."""
    parts, position = [b"WEBP"], 12
    while position + 8 <= len(body):
        kind, length = body[position : position + 4], int.from_bytes(body[position + 4 : position + 8], "little")
        data = body[position + 8 :][:length]
        if kind in WEBP_PIXELS and len(data) == length:
            data = bytes([data[0] & ~WEBP_METADATA_FLAGS]) + data[1:] if kind == b"VP8X" and data else data
            parts.append(b"%b%b%b%b" % (kind, length.to_bytes(4, "little"), data, b"\0" * (length % 2)))
        position += 8 + length + length % 2
    content = b"".join(parts)
    return b"RIFF" + len(content).to_bytes(4, "little") + content
