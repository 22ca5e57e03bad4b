"""How to read what URLs and servers say, and the closed list of reasons why no photograph came."""

import re
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from yarl import URL

NOT_FOUND = "not_found"
GONE = "gone"
FORBIDDEN = "forbidden"
HTTP_ERROR = "http_error"
SERVER_ERROR = "server_error"
TOO_MANY_REQUESTS = "too_many_requests"
TIMEOUT = "timeout"
CONNECTION_FAILED = "connection_failed"
INCOMPLETE = "incomplete"
TOO_LARGE = "too_large"
EMPTY = "empty"
TOO_MANY_REDIRECTS = "too_many_redirects"
REDIRECT_LOOP = "redirect_loop"
BAD_REDIRECT = "bad_redirect"
PRIVATE_ADDRESS = "private_address"
BAD_URL = "bad_url"

# Every reason with its meaning.
REASONS = {
    NOT_FOUND: "status 404, or no such file",
    GONE: "status 410",
    FORBIDDEN: "status 401, 403 or 451",
    HTTP_ERROR: "another status that is no success",
    SERVER_ERROR: "status 5xx, at every attempt",
    TOO_MANY_REQUESTS: "status 429, at every attempt, or with a Retry-After that is too long to wait for",
    TIMEOUT: "no connection, no answer or no end of it in time",
    CONNECTION_FAILED: "no such host, connection refused or broken, TLS that fails, an answer that is not HTTP",
    INCOMPLETE: "the connection ended before the body did",
    TOO_LARGE: "more bytes than the limit",
    EMPTY: "a success without a body",
    TOO_MANY_REDIRECTS: "more than five redirects",
    REDIRECT_LOOP: "more than five redirects, in a circle",
    BAD_REDIRECT: "a redirect to something else than an http or https URL",
    PRIVATE_ADDRESS: "the URL, or a redirect, leads to an address that is not public",
    BAD_URL: "not an http or https URL, nor a file of the folder of photographs given to `manifest`",
}
# Those that may be otherwise a moment, or a day, later.
MAY_PASS = frozenset({SERVER_ERROR, TOO_MANY_REQUESTS, TIMEOUT, CONNECTION_FAILED, INCOMPLETE})

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
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_url(text: str, base: URL | None = None) -> URL | None:
    """Parse a URL, seen from `base` where one is given; None when it is none.

    One that is quoted already is sent byte for byte as it stands, since quoting anew changes what some servers take
    it for; blanks and other characters that have no place in a URL are quoted.
    """
    text = text.strip()
    try:
        url = URL(text, encoded=_QUOTED.fullmatch(text) is not None)
        url = base.join(url) if base is not None else url
        return url if url.host and not _CONTROL.search(text) else None
    except ValueError:
        return None


def reason_of_status(status: int) -> str:
    """The reason that a status other than success stands for; "" for success."""
    if 200 <= status < 300:
        return ""
    return _STATUS.get(status) or (SERVER_ERROR if status >= 500 else HTTP_ERROR)


def retry_after_s(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date (RFC 9110, 10.2.3); None when unreadable."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def read_local(url: str, folder: str, max_bytes: int) -> tuple[bytes | None, str]:
    """Read what a file:// URL names, if it lies below `folder`: its bytes, else None and the reason."""
    try:
        parts = urlsplit(url)
        path, top = Path(unquote(parts.path)).resolve(), Path(folder).resolve()
        if not folder or parts.netloc not in ("", "localhost") or not path.is_relative_to(top):
            return None, BAD_URL
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except PermissionError:
        return None, FORBIDDEN
    except OSError:
        return None, NOT_FOUND
    except ValueError:
        return None, BAD_URL
    if len(body) > max_bytes:
        return None, TOO_LARGE
    return (body, "") if body else (None, EMPTY)
