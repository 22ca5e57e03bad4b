"""Rewrite answers that break rules of HTTP, so that aiohttp's parser accepts them.

Many old servers and scripts send headers twice, invalid header lines, or bytes after the body. curl and browsers
accept such answers; aiohttp refuses them. Answers that curl refuses, too (two different lengths, bytes that are not
HTTP), still fail in aiohttp's parser. This module works on bytes alone: `connector` passes them to it.
"""

import re
from collections.abc import Callable

from aitax_ray.images.content import is_ended

MAX_HEAD_BYTES = 256 << 10  # of status line and headers together; curl takes 300 kB
MAX_HEADERS = 5000
MAX_CHUNK_LINE = 8 << 10  # bytes of the line with the length of a chunk
END_BYTES = 16  # bytes kept of a body's beginning and end, to recognise a complete photograph
# The reason phrase and a part of the version may be missing. ICY is what radio servers answer.
_STATUS_LINE = re.compile(rb"(?:HTTP/(\d(?:\.\d)?)|ICY)[ \t]+(\d{3})(?!\d)", re.IGNORECASE)
_FIRST_BYTES = (b"http/", b"icy ")
_NAME = re.compile(rb"[0-9A-Za-z!#$%&'*+\-.^_`|~]+")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})(?![0-9A-Za-z])")
_LENGTH = re.compile(rb"\+?(\d{1,18})(?!\d)")
# Headers about the transfer, which are written anew, and one of an old protocol that aiohttp refuses.
_FRAMING = frozenset(
    {
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"upgrade",
        b"trailer",
        b"sec-websocket-key1",
    }
)
_NOT_HTTP = b"?\r\n"  # aiohttp's parser refuses this as a status line and as the length of a chunk


class NotHttpError(ValueError):
    """Bytes are not HTTP, not even by curl's loose rules."""


class AnswerRewriter:
    """Rewrites one answer. Feed it the bytes from the server, and give the bytes that it returns to the parser."""

    def __init__(self) -> None:
        self.is_done = False
        """Whether the answer has ended. Further bytes do not belong to it."""
        self.is_broken = False
        """Whether the answer has ended because its bytes are not HTTP."""
        self.has_surplus = False
        """Whether more bytes came after the end."""
        self._step: Callable[[], bytes | None] = self._read_head
        self._unread, self._position = bytearray(), 0  # received bytes; how many of them were read
        self._lines: list[bytes] = []
        self._line_bytes = 0  # of all lines since the last byte of a body
        self._missing = 0  # bytes of the body or chunk that have not come yet
        self._first, self._last, self._body_bytes = b"", b"", 0

    def feed(self, data: bytes) -> bytes:
        """Rewrite the next bytes."""
        if self._step == self._pass_body and len(data) < self._missing:  # most bytes: not copied
            self._missing -= len(data)
            return data
        self._unread += data
        parts = []
        try:
            while not self.is_done and (part := self._step()) is not None:
                parts.append(part)
        except NotHttpError:
            parts.append(_NOT_HTTP)
            self.is_done = self.is_broken = True
        del self._unread[: self._position]
        self._position = 0
        if self.is_done:
            # An empty line after the body is usual and harmless.
            self.has_surplus = self.has_surplus or bool(self._unread.strip(b"\r\n"))
            self._unread.clear()
        return b"".join(parts)

    def end(self) -> bytes:
        """Return what completes the answer if only its end marker is missing. Call it when the connection has ended."""
        if self.is_done:
            return b""
        self.is_done = True
        if self._step == self._read_head and self._lines and _STATUS_LINE.match(self._lines[0]):
            code, _, fields = _parse_head(self._lines)
            is_redirect = 300 <= code < 400 and any(name.lower() == b"location" for name, _ in fields)
            return _format_head(code, [*fields, (b"Content-Length", b"0")]) if is_redirect else b""
        chunked = self._step in (self._read_chunk_line, self._pass_chunk, self._end_chunk, self._read_trailer)
        seen_last = self._step == self._read_trailer
        if chunked and (seen_last or is_ended(self._first, self._last, self._body_bytes)):
            return b"0\r\n\r\n"
        return b""

    def _read_line(self, max_bytes: int) -> bytes | None:
        """Read the next line, which may end with LF alone. Returns None if its end has not come yet."""
        begin, end = self._position, self._unread.find(b"\n", self._position)
        length = (end if end >= 0 else len(self._unread)) - begin
        if self._line_bytes + length > max_bytes:
            raise NotHttpError
        if end < 0:
            return None
        self._line_bytes += length + 1
        self._position = end + 1
        return bytes(self._unread[begin:end]).rstrip(b"\r")

    def _read_head(self) -> bytes | None:
        if not self._lines:
            begin = bytes(self._unread[self._position : self._position + 64]).lstrip(b"\r\n")[:5].lower()
            if not any(word.startswith(begin) or begin.startswith(word) for word in _FIRST_BYTES):
                raise NotHttpError
        line = self._read_line(MAX_HEAD_BYTES)
        if line is None:
            return None
        if line:
            self._lines.append(line)
            return b""
        if not self._lines:  # an empty line before the answer
            return b""
        lines, self._lines, self._line_bytes = self._lines, [], 0
        return self._begin_body(*_parse_head(lines))

    def _begin_body(self, code: int, keep_alive: bool, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Choose how to read the body, and write the head."""
        if code < 200:  # "100 Continue" and the like precede the answer
            return b""
        kept = [(name, value) for name, value in fields if name.lower() not in _FRAMING]
        if not keep_alive:
            kept.append((b"Connection", b"close"))
        if code in (204, 304):
            self.is_done = True
            kept.append((b"Content-Length", b"0"))
        elif b"chunked" in (codings := _values(fields, b"transfer-encoding")):  # takes precedence over Content-Length
            self._step = self._read_chunk_line
            # A body compressed for the transfer is treated like one that is stored compressed.
            kept += [(b"Content-Encoding", coding) for coding in codings if coding in (b"gzip", b"x-gzip", b"deflate")]
            kept.append((b"Transfer-Encoding", b"chunked"))
        elif (length := _content_length(fields)) is None:
            self._step = self._pass_rest
        else:
            self._step, self._missing, self.is_done = self._pass_body, length, not length
            kept.append((b"Content-Length", b"%d" % length))
        return _format_head(code, kept)

    def _take(self) -> bytes:
        """Read what has come of the missing bytes."""
        part = bytes(self._unread[self._position : self._position + self._missing])
        self._position += len(part)
        self._missing -= len(part)
        return part

    def _pass_rest(self) -> bytes | None:
        part = bytes(self._unread[self._position :])
        self._position = len(self._unread)
        return part or None

    def _pass_body(self) -> bytes | None:
        part = self._take()
        self.is_done = not self._missing
        return part or None

    def _read_chunk_line(self) -> bytes | None:
        line = self._read_line(MAX_CHUNK_LINE)
        if line is None:
            return None
        match = _CHUNK_SIZE.match(line)
        if match is None:
            raise NotHttpError
        self._line_bytes, self._missing = 0, int(match[1], 16)
        self._step = self._pass_chunk if self._missing else self._read_trailer
        return b""

    def _pass_chunk(self) -> bytes | None:
        """Pass on the bytes that have come as a separate chunk, so that the body can end after any byte."""
        part = self._take()
        if not part:
            return None
        self._first = (self._first + part[:END_BYTES])[:END_BYTES]
        self._last = (self._last + part[-END_BYTES:])[-END_BYTES:]
        self._body_bytes += len(part)
        if not self._missing:
            self._step = self._end_chunk
        return b"%x\r\n%b\r\n" % (len(part), part)

    def _end_chunk(self) -> bytes | None:
        line = self._read_line(MAX_CHUNK_LINE)
        if line:
            raise NotHttpError
        self._step = self._end_chunk if line is None else self._read_chunk_line
        return line

    def _read_trailer(self) -> bytes | None:
        line = self._read_line(MAX_HEAD_BYTES)
        if line is None or line:
            return None if line is None else b""
        self.is_done = True
        return b"0\r\n\r\n"


def _parse_head(lines: list[bytes]) -> tuple[int, bool, list[tuple[bytes, bytes]]]:
    """Parse a head into the status, whether the connection can be used again, and the headers.

    Lines without a colon or with an invalid name are ignored, as in browsers.
    """
    match = _STATUS_LINE.match(lines[0])
    if match is None:
        raise NotHttpError
    fields: list[tuple[bytes, bytes]] = []
    for line in lines[1:]:
        name, colon, value = line.replace(b"\0", b" ").replace(b"\r", b" ").partition(b":")
        name = name.rstrip(b" \t")
        if line[:1] in (b" ", b"\t"):  # continues the header before it
            if fields:
                fields[-1] = (fields[-1][0], fields[-1][1] + b" " + line.strip())
        elif colon and _NAME.fullmatch(name):
            fields.append((name, value.strip(b" \t")))
    connection = _values(fields, b"connection")
    is_new = match[1] not in (None, b"0.9", b"1.0", b"1")
    keep_alive = b"close" not in connection and (is_new or b"keep-alive" in connection)
    return int(match[2]), keep_alive, fields


def _format_head(code: int, fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"HTTP/1.1 %d \r\n%b\r\n" % (code, b"".join(b"%b: %b\r\n" % field for field in fields))


def _values(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """List the values of a header. It may occur several times, with several values separated by commas."""
    values = b",".join(value for key, value in fields if key.lower() == name)
    return [value.strip().lower() for value in values.split(b",") if value.strip()]


def _content_length(fields: list[tuple[bytes, bytes]]) -> int | None:
    """Return the length of the body; None if none is given that makes sense. Several lengths must be equal."""
    lengths = {length for length in _values(fields, b"content-length") if not re.match(rb"-|\+?\d{19}", length)}
    if not lengths:
        return None
    matches = [_LENGTH.match(length) for length in lengths]
    numbers = {int(match[1]) for match in matches if match}  # "100 bytes" counts as 100
    if len(numbers) != 1 or None in matches:
        raise NotHttpError
    return numbers.pop()
