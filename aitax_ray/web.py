"""The web: the host of a URL, an address as others may read it, and how long a server asks to wait."""

import re
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

# The host of an http or https URL, without user, password and port (RFC 3986, 3.2). Python and DuckDB agree on it.

_HOST = r"(?i)^\s*https?://(?:[^/?#@]*@)*(\[[^\]/?#]*\]|[^/?#:@\[\]]+)"
HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^/?#\s@'\"]*@(?=[^\s])")
_PARAMETER = re.compile(r"(?<=[?&;])([^=&;#\s'\"]+)=([^&;#\s'\"]*)")
# Names of parameters that hold a secret: presigned URLs of S3, Google and Azure, tokens of APIs.
_SECRET_NAME = re.compile(
    r"(?i)^(x-(amz|goog)-.*|.*(sig|signature|token|secret|passw(or)?d|pwd|auth|credentials?|session|sas|jwt)"
    r"|(api|access|account|private|shared|aws)?[-_]?(access)?[-_]?key([-_]?id)?|awsaccesskeyid|googleaccessid|policy)$"
)


def host_of(url: str) -> str:
    """The host of an http or https URL in lower case, without user, password and port; "" where there is none.

    >>> host_of("https://me:secret@Example.org:8080/a.jpg"), host_of("a.jpg")
    ('example.org', '')
    """
    found = re.match(_HOST, url)
    return found[1].lower() if found else ""


def host_sql(column: str) -> str:
    """The expression of DuckDB for `host_of` of a column of URLs."""
    return f"lower(regexp_extract({column}, '{_HOST}', 1))"


def hide_secrets(text: str) -> str:
    """A text whose addresses hold no user, password, or key: fit for a log, a report, an error, a page.

    >>> hide_secrets("s3://KEY:SECRET@bucket/frogs"), hide_secrets("https://x.org/a.zip?r=frogs&sig=abc")
    ('s3://***@bucket/frogs', 'https://x.org/a.zip?r=frogs&sig=***')
    """
    text = _USER.sub(f"{HIDDEN}@", text)
    return _PARAMETER.sub(lambda found: f"{found[1]}={HIDDEN}" if _SECRET_NAME.match(found[1]) else found[0], text)


def publish_address(address: str) -> str:
    """An address as strangers may read it: without secrets, and of a place on this machine only the last name.

    >>> publish_address("/home/ann/frogs.zip"), publish_address("file:///home/ann/frogs.zip")
    ('frogs.zip', 'frogs.zip')
    """
    parts = urlsplit(address)
    if parts.scheme == "file" or "://" not in address:
        return parts.path.rstrip("/").rsplit("/", 1)[-1]
    return hide_secrets(address)


def web_address(address: str) -> str:
    """An address that strangers can open, without secrets; "" for one that does not lead to the web.

    >>> web_address("https://me:secret@x.org/a.jpg"), web_address("file:///home/ann/a.jpg")
    ('https://***@x.org/a.jpg', '')
    """
    return publish_address(address.strip()) if host_of(address) else ""


def retry_after_s(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date (RFC 9110, 10.2.3); None when unreadable."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
