"""The web: the host of a URL, addresses without their secrets, and how long a server asks to wait."""

import contextlib
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

# The host of an http or https URL, without user, password and port (RFC 3986, 3.2). Python and DuckDB agree on it.
_HOST = r"(?i)^\s*https?://(?:[^/?#@]*@)*(\[[^\]/?#]*\]|[^/?#:@\[\]]+)"

_HOST_PATTERN = re.compile(_HOST)
_LOCAL = re.compile(r"(?i)(?:^|::)(?:file|local):")

HIDDEN = "***"
# A user and a password, before "@". A password that is not escaped may contain "/", "?" and "#". Ports are digits only.
# Paths may have one slash instead of two, as in "s3:/key:secret@bucket". The lengths are limited, so that a hostile
# text takes linear time.
_USER = re.compile(
    r"""(?i)([a-z][a-z0-9+.-]{0,20})(:/{1,2})([^/?#\s"]{0,2048}|[^/?#\s"@:]{0,99}:(?!\d+(?:[/?#]|$))[^\s"@]{0,2048})@(?=\S)"""
)
# With these schemes a user without a password may be a secret key. With others it is a container (abfss://) or a login
# (ssh://).
_USER_IS_KEY = {"http", "https", "s3", "s3a", "s3n", "gs", "gcs"}
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s'\"]+)=([^&;#\s'\"]*)")
# Parameters that hold a secret: presigned URLs of S3, Google and Azure, tokens of APIs, sessions.
_SECRET_NAME = re.compile(
    r"(?i)x-(?:amz|goog)-.*|.*(?:sig|signature|token|secret|passw(?:or)?d|passphrase|pwd|credentials?|sas|jwt|auth)"
    r"|pass|bearer|.*sess(?:ion)?(?:[-_]?id)?|(?:.*[-_])?(?:api|access|account|private|shared|secret|auth|client|subscription)"
    r"[-_]?key(?:[-_]?id)?|awsaccesskeyid|googleaccessid|policy"
)
_KEY = re.compile(r"(?=.*\d)[\w-]{16,}")  # a value of "key=" that is a secret; other values name a file


def host_of(url: str) -> str:
    """Find the host of an http or https URL, in lower case, without user, password and port; "" if there is none.

    >>> host_of("https://me:secret@Example.org:8080/a.jpg"), host_of("a.jpg")
    ('example.org', '')
    """
    found = _HOST_PATTERN.match(url)
    return found[1].lower() if found else ""


def host_sql(column: str) -> str:
    """Write `host_of` as an expression of DuckDB over a column of URLs."""
    return f"lower(regexp_extract({column}, '{_HOST}', 1))"


def hide_secrets(text: str) -> str:
    """Hide users, passwords and keys in the addresses of a text. The result may be logged, reported and published.

    >>> hide_secrets("s3://KEY:SECRET@bucket/frogs"), hide_secrets("https://x.org/a.zip?r=frogs&sig=abc")
    ('s3://***@bucket/frogs', 'https://x.org/a.zip?r=frogs&sig=***')
    """
    if "@" in text:  # a service asks for each photograph that it shows, and hardly any address has either
        text = _USER.sub(_hide_user, text)
    return _PARAMETER.sub(_hide_parameter, text) if "=" in text else text


def hide_secrets_in(value: Any) -> Any:
    """Hide the secrets of every address in JSON-like data. A text without an address, such as a path, is unchanged."""
    if isinstance(value, dict):
        return {name: hide_secrets_in(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [hide_secrets_in(part) for part in value]
    return hide_secrets(value) if isinstance(value, str) and ":/" in value else value


def publish_address(address: str) -> str:
    """Give an address that may be published: without secrets; of a local path only the name of the file or folder.

    >>> publish_address("/home/ann/frogs.zip"), publish_address("file:///home/ann/frogs.zip")
    ('frogs.zip', 'frogs.zip')
    """
    address = address.strip()
    # fsspec chains addresses: zip://frogs.csv::file:///home/ann/frogs.zip
    if "://" not in address or _LOCAL.search(address):
        return re.split(r"[?#]", address)[0].rstrip("/").rsplit("/", 1)[-1]
    return hide_secrets(address)


def web_address(address: str) -> str:
    """Give a web address without secrets; "" if it is not an http or https URL, so that others cannot open it.

    >>> web_address("https://me:secret@x.org/a.jpg"), web_address("file:///home/ann/a.jpg")
    ('https://***@x.org/a.jpg', '')
    """
    return publish_address(address.strip()) if host_of(address) else ""


def retry_after_s(value: str, sent: str = "") -> float | None:
    """Read the seconds that a Retry-After header asks for: a number or a date (RFC 9110, 10.2.3), else None.

    `sent` is the Date header of the same answer: a date is counted from there, because our clock may be wrong.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    now = time.time()
    with contextlib.suppress(ValueError, OverflowError):
        now = parsedate_to_datetime(sent).timestamp()
    return max(0.0, until - now)


def _hide_user(found: re.Match[str]) -> str:
    scheme, slashes, user = found.groups()
    is_secret = ":" in user or (scheme.lower() in _USER_IS_KEY and slashes == "://")
    return f"{scheme}{slashes}{HIDDEN}@" if user and is_secret else found[0]


def _hide_parameter(found: re.Match[str]) -> str:
    name, value = unquote(found[1]), unquote(found[2])
    is_key = name.lower() == "key" and _KEY.fullmatch(value)
    # The value may be another address, percent-encoded.
    holds_secret = value != found[2] and "://" in value and hide_secrets(value) != value
    return f"{found[1]}={HIDDEN}" if is_key or holds_secret or _SECRET_NAME.fullmatch(name) else found[0]
