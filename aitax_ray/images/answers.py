"""Read URLs, headers and compressed bodies; and the complete list of reasons why no photograph came."""

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
    HTTP_ERROR: "any other status that is not a success",
    SERVER_ERROR: "status 5xx, at every attempt",
    TOO_MANY_REQUESTS: "status 429, at every attempt, or the host asks for a pause that is too long to wait for",
    TIMEOUT: "no connection, no answer or no complete answer in time",
    NO_SUCH_HOST: "the host's name has no address",
    CONNECTION_FAILED: "connection refused or broken, an answer that is not HTTP",
    TLS_FAILED: "no secure connection: the certificate has expired or belongs to another host",
    HOST_UNREACHABLE: "not requested: the host left so many requests unanswered that it counts as dead for a while",
    INCOMPLETE: "the connection ended before the body did",
    TOO_LARGE: "more bytes than the limit",
    EMPTY: "a success without a body",
    TOO_MANY_REDIRECTS: "more than five redirects",
    REDIRECT_LOOP: "more than five redirects, in a circle",
    BAD_REDIRECT: "a redirect to something other than an http or https URL",
    PRIVATE_ADDRESS: "the URL, or a redirect, leads to an address that is not public",
    BAD_URL: "not an http or https URL, nor a file of the folder of photographs given to `manifest`",
    BAD_ENCODING: "a body that is compressed in a way that cannot be read, or whose compressed data are damaged",
    UNEXPECTED: "an error of this program; see Ray's logs",
    NO_AI: "the host forbids its use for artificial intelligence (X-Robots-Tag: noai or noimageai)",
}
# Reasons that may have gone a moment later: the URL is tried again in the same run.
PASSING = frozenset({SERVER_ERROR, TOO_MANY_REQUESTS, TIMEOUT, NO_SUCH_HOST, CONNECTION_FAILED, INCOMPLETE})
# Reasons that may have gone a day later: the URL is tried again in the next run.
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
# A text of these characters only, with two digits behind every %, needs no quoting (RFC 3986).
_QUOTED = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_PATH = re.compile(r"^[^?#]*")
_ASCII = "".join(map(chr, range(0x80)))
# Directives of X-Robots-Tag in which the word before the colon is not a robot's name.
_WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_INFLATED = ("gzip", "x-gzip", "deflate")
_NOT_INFLATED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_MAX_CODINGS = 2
_MAX_MEMBERS = 16  # of a gzip body; servers of photographs send one
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_url(text: str, base: URL | None = None) -> URL | None:
    """Parse a URL, which may be relative to `base`; None if the text is not a URL.

    A URL that is quoted already is sent unchanged, because some servers take a URL that is quoted again for another
    one. In other texts, blanks and other invalid characters are quoted. A backslash in the path becomes a slash, as
    in browsers.
    """
    text = _PATH.sub(lambda path: path[0].replace("\\", "/"), text.strip(), count=1)
    try:
        url = URL(text, encoded=_QUOTED.fullmatch(text) is not None)
        url = base.join(url) if base is not None else url
        return url if url.host and not _CONTROL.search(text) else None
    except ValueError:
        return None


def plain_text(header: str) -> str:
    """Convert a header's value to text that can be stored: aiohttp returns invalid UTF-8 as lone surrogates."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain_url(header: str) -> str:
    """Convert a header's value to a URL: as browsers do, bytes beyond ASCII are quoted one by one."""
    return quote(header.encode("utf-8", "surrogateescape"), safe=_ASCII)


def codings(headers: Iterable[str]) -> tuple[str, ...] | None:
    """List the compressions that Content-Encoding headers name, in order; None if we cannot inflate one of them.

    Names of anything else ("UTF-8", "none", "aws-chunked") are ignored, as browsers do.
    """
    names = [name.strip().lower() for header in headers for name in header.split(",")]
    compressions = tuple(name for name in names if name in _INFLATED)
    return None if _NOT_INFLATED.intersection(names) or len(compressions) > _MAX_CODINGS else compressions


class Inflater:
    """Inflates gzip (of one or several members), zlib and raw deflate up to a limit. Raises zlib.error.

    It uses zlib, not the faster isal that archives use: few servers compress photographs, which are compressed already.
    """

    def __init__(self, codings: tuple[str, ...] = ("gzip",)) -> None:
        """`codings` are in the order in which they were applied."""
        *before, self._coding = codings
        self._next = Inflater(tuple(before)) if before else None
        self._member: zlib._Decompress | None = None
        self._wbits, self._members_left = zlib.MAX_WBITS | 32, _MAX_MEMBERS

    @property
    def complete(self) -> bool:
        """Whether all data have been inflated to their end. The checksum after them may be missing."""
        return self._has_ended() and (self._next is None or self._next.complete)

    def _has_ended(self) -> bool:
        if self._member is None or self._member.eof:
            return True
        try:  # zlib checks the checksum only after the end of the data: it refuses this one only there
            self._member.copy().decompress(b"\xff" * 8, 1)
        except zlib.error as error:
            return "data check" in str(error) or "length check" in str(error)
        return False

    def feed(self, chunk: bytes, max_bytes: int) -> bytes:
        """Inflate a chunk to at most `max_bytes`. The rest is lost, so stop when as many come."""
        body = b""
        while chunk and len(body) < max_bytes:
            if self._member is None:
                if self._coding == "deflate" and chunk[0] & 0x0F != 8 and chunk[0] != 0x1F:
                    self._wbits = -zlib.MAX_WBITS  # without zlib's header, as some servers send it
                self._member = zlib.decompressobj(self._wbits)
            elif self._member.eof:
                if chunk[0] != 0x1F:
                    break  # not another gzip member: browsers ignore it
                self._members_left -= 1
                if not self._members_left:
                    raise zlib.error("too many members")
                self._member = zlib.decompressobj(self._wbits)
            body += self._member.decompress(chunk, max_bytes - len(body))
            chunk = self._member.unused_data
        return body if self._next is None else self._next.feed(body, max_bytes)


def reason_of_status(status: int) -> str:
    """Return the reason for a status that is not a success; "" for a success."""
    if 200 <= status < 300:
        return ""
    return _STATUS.get(status) or (SERVER_ERROR if status >= 500 else HTTP_ERROR)


def forbids_ai(headers: Iterable[str], agent: str = "aitax-ray") -> bool:
    """Tell whether X-Robots-Tag headers contain noai or noimageai, for all robots or for `agent`.

    A header may begin with the name of the robot to which it applies:
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
    """Read the file of a file:// URL if it lies below `folder`: its bytes and "", or None and the reason."""
    try:
        parts = urlsplit(url)
        path, top = Path(unquote(parts.path)).resolve(), Path(folder).resolve()
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            return None, BAD_URL
        if not folder or parts.netloc not in ("", "localhost") or not path.is_relative_to(top):
            return None, BAD_URL
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except PermissionError:
        return None, FORBIDDEN
    except OSError:
        return None, NOT_FOUND
    except (ValueError, RuntimeError):  # RuntimeError: links in a circle, in Python 3.11
        return None, BAD_URL
    if len(body) > max_bytes:
        return None, TOO_LARGE
    return (body, "") if body else (None, EMPTY)


def missing_photos(folder: str, urls: list[str]) -> int | None:
    """Count the file:// URLs that lead to no file on this machine; None when it lacks the folder."""
    if not Path(folder).is_dir():
        return None
    return sum(read_local(url, folder, 0)[1] == NOT_FOUND for url in urls)
