"""How to read what URLs and servers say, and the closed list of reasons why no photograph came."""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from yarl import URL

NOT_FOUND = "not_found"
GONE = "gone"
FORBIDDEN = "forbidden"
HTTP_ERROR = "http_error"
SERVER_ERROR = "server_error"
TOO_MANY_REQUESTS = "too_many_requests"
TIMEOUT = "timeout"
NO_SUCH_HOST = "no_such_host"
CONNECTION_FAILED = "connection_failed"
TLS_FAILED = "tls_failed"
HOST_UNREACHABLE = "host_unreachable"
INCOMPLETE = "incomplete"
TOO_LARGE = "too_large"
EMPTY = "empty"
TOO_MANY_REDIRECTS = "too_many_redirects"
REDIRECT_LOOP = "redirect_loop"
BAD_REDIRECT = "bad_redirect"
PRIVATE_ADDRESS = "private_address"
BAD_URL = "bad_url"
BAD_ENCODING = "bad_encoding"
NO_AI = "no_ai"
UNEXPECTED = "unexpected"

# Every reason with its meaning.
REASONS = {
    NOT_FOUND: "status 404, or no such file",
    GONE: "status 410",
    FORBIDDEN: "status 401, 403 or 451",
    HTTP_ERROR: "another status that is no success",
    SERVER_ERROR: "status 5xx, at every attempt",
    TOO_MANY_REQUESTS: "status 429, at every attempt, or the host asks for a pause that is too long to wait for",
    TIMEOUT: "no connection, no answer or no end of it in time",
    NO_SUCH_HOST: "the host's name leads to no address",
    CONNECTION_FAILED: "connection refused or broken, an answer that is not HTTP",
    TLS_FAILED: "no secure connection: a certificate that has expired or is another host's",
    HOST_UNREACHABLE: "not asked for: the host had not answered so many others that it is taken for dead for a while",
    INCOMPLETE: "the connection ended before the body did",
    TOO_LARGE: "more bytes than the limit",
    EMPTY: "a success without a body",
    TOO_MANY_REDIRECTS: "more than five redirects",
    REDIRECT_LOOP: "more than five redirects, in a circle",
    BAD_REDIRECT: "a redirect to something else than an http or https URL",
    PRIVATE_ADDRESS: "the URL, or a redirect, leads to an address that is not public",
    BAD_URL: "not an http or https URL, nor a file of the folder of photographs given to `manifest`",
    BAD_ENCODING: "a body that is compressed in a way that was not asked for, or wrongly",
    UNEXPECTED: "an error of this program, which Ray's logs tell",
    NO_AI: "the host asks not to use it for artificial intelligence (X-Robots-Tag: noai or noimageai)",
}
# Those that may be otherwise a moment later, and are tried again at once.
PASSING = frozenset({SERVER_ERROR, TOO_MANY_REQUESTS, TIMEOUT, NO_SUCH_HOST, CONNECTION_FAILED, INCOMPLETE})
# Those that may be otherwise a day later, and are tried again by the next run.
MAY_PASS = PASSING | {HOST_UNREACHABLE, TLS_FAILED, UNEXPECTED}

_STATUS = {
    401: FORBIDDEN,
    403: FORBIDDEN,
    404: NOT_FOUND,
    408: TIMEOUT,
    410: GONE,
    429: TOO_MANY_REQUESTS,
    451: FORBIDDEN,
}
# A URL of these characters only, with every % followed by two digits, is one already (RFC 3986).
_QUOTED = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_PATH = re.compile(r"[^?#]*")
_ASCII = "".join(map(chr, range(0x80)))
# Directives of X-Robots-Tag that have a colon without being for one robot.
_WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_INFLATED = ("gzip", "x-gzip", "deflate")
_NOT_INFLATED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_MAX_CODINGS = 2
_MAX_MEMBERS = 16  # of a gzip body; no server of photographs sends more than one
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_url(text: str, base: URL | None = None) -> URL | None:
    """Parse a URL, seen from `base` where one is given; None when it is none.

    One that is quoted already is sent byte for byte as it stands, since quoting anew changes what some servers take
    it for; blanks and other characters that have no place in a URL are quoted. A backslash before the query is a
    slash, as in browsers.
    """
    path = _PATH.match(text := text.strip())
    text = path[0].replace("\\", "/") + text[path.end() :] if path else text
    try:
        url = URL(text, encoded=_QUOTED.fullmatch(text) is not None)
        url = base.join(url) if base is not None else url
        return url if url.host and not _CONTROL.search(text) else None
    except ValueError:
        return None


def plain_text(header: str) -> str:
    """A header's value as text that can be stored: aiohttp passes on bytes that are no UTF-8 as lone surrogates."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain_url(header: str) -> str:
    """A header's value as a URL: bytes beyond ASCII are quoted as they are, as browsers do."""
    return quote(header.encode("utf-8", "surrogateescape"), safe=_ASCII)


def codings(headers: Iterable[str]) -> tuple[str, ...] | None:
    """List how Content-Encoding headers say that a body is compressed, in order; None for what we cannot inflate.

    A name that is no coding ("UTF-8", "none", "aws-chunked") says nothing: browsers take such a body as it is.
    """
    names = [name.strip().lower() for header in headers for name in header.split(",")]
    compressions = tuple(name for name in names if name in _INFLATED)
    return None if _NOT_INFLATED.intersection(names) or len(compressions) > _MAX_CODINGS else compressions


class Inflater:
    """Inflates gzip (of one member or several), zlib or raw deflate, no further than asked to. Raises zlib.error.

    zlib does, where archives take isal: photographs are compressed already, and few servers compress them again.
    """

    def __init__(self, codings: tuple[str, ...] = ("gzip",)) -> None:
        """Inflate what was compressed by one of the codings after the other; the last is undone first."""
        *before, self._coding = codings
        self._next = Inflater(tuple(before)) if before else None
        self._member: zlib._Decompress | None = None
        self._wbits, self._members_left = zlib.MAX_WBITS | 32, _MAX_MEMBERS

    @property
    def complete(self) -> bool:
        """Whether everything that was begun has been inflated to its end. The checksum behind it may be missing."""
        return self._has_ended() and (self._next is None or self._next.complete)

    def _has_ended(self) -> bool:
        if self._member is None or self._member.eof:
            return True
        try:  # zlib looks at a checksum only after the last byte has been inflated
            self._member.copy().decompress(b"\xff" * 8, 1)
        except zlib.error as error:
            return "data check" in str(error) or "length check" in str(error)
        return False

    def feed(self, chunk: bytes, most: int) -> bytes:
        """Inflate a chunk to at most `most` bytes; of a chunk that holds as many or more, the rest is lost."""
        body = b""
        while chunk and len(body) < most:
            if self._member is None:
                if self._coding == "deflate" and chunk[0] & 0x0F != 8 and chunk[0] != 0x1F:
                    self._wbits = -zlib.MAX_WBITS  # without zlib's header, as some servers send it
                self._member = zlib.decompressobj(self._wbits)
            elif self._member.eof:
                if chunk[0] != 0x1F:
                    break  # not gzip: browsers do not look at it
                self._members_left -= 1
                if not self._members_left:
                    raise zlib.error("too many members")
                self._member = zlib.decompressobj(self._wbits)
            body += self._member.decompress(chunk, most - len(body))
            chunk = self._member.unused_data
        return body if self._next is None else self._next.feed(body, most)


def reason_of_status(status: int) -> str:
    """The reason that a status other than success stands for; "" for success."""
    if 200 <= status < 300:
        return ""
    return _STATUS.get(status) or (SERVER_ERROR if status >= 500 else HTTP_ERROR)


def forbids_ai(headers: Iterable[str], agent: str = "aitax-ray") -> bool:
    """Tell whether X-Robots-Tag headers hold noai or noimageai, for everybody or for `agent`.

    A header may begin with the name of the robot that it is for:
    https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag#xrobotstag.
    """
    for header in headers:
        name, colon, rest = header.partition(":")
        if colon and "," not in name and name.strip().lower() not in _WITH_VALUE:
            if name.strip().lower() != agent:
                continue
            header = rest
        if {"noai", "noimageai"} & {word.strip().lower() for word in header.split(",")}:
            return True
    return False


def read_local(url: str, folder: str, max_bytes: int) -> tuple[bytes | None, str]:
    """Read what a file:// URL names, if it lies below `folder`: its bytes, else None and the reason."""
    try:
        parts = urlsplit(url)
        path, top = Path(unquote(parts.path)).resolve(), Path(folder).resolve()
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return None, BAD_URL
        if not folder or parts.netloc not in ("", "localhost") or not path.is_relative_to(top):
            return None, BAD_URL
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except PermissionError:
        return None, FORBIDDEN
    except OSError:
        return None, NOT_FOUND
    except (ValueError, RuntimeError):  # RuntimeError: links in a circle, as Python 3.11 tells it
        return None, BAD_URL
    if len(body) > max_bytes:
        return None, TOO_LARGE
    return (body, "") if body else (None, EMPTY)
