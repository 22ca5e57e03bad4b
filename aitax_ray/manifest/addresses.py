"""Which file a signed address leads to: the signature changes with every run, the file does not."""

import hashlib
import re

from aitax_ray.web import HIDDEN, hide_secrets

# Parameters that a signature covers: S3 and CloudFront (version 2), Google Cloud, Azure. They change with it.
# fmt: off
SIGNED = frozenset({
    "expires", "key-pair-id", "se", "st", "sp", "spr", "sv", "sr", "srt", "ss", "sip", "ske", "sks", "skt", "skv",
    "skoid", "sktid", "response-content-disposition",
})
# fmt: on
NAMES_A_FILE = frozenset({"key"})  # secret at some hosts, at others the name of what is fetched
_PARAMETER = re.compile(r"([^=&]*)=([^&]*)")


def unsign_address(address: str) -> str:
    """The address without the parameters that sign it; as it is when it is not signed.

    >>> unsign_address("https://x.org/a.zip?v=2&X-Amz-Expires=60&X-Amz-Signature=abc")
    'https://x.org/a.zip?v=2'
    """
    base, mark, query = address.partition("?")
    names = {name for name, value in _PARAMETER.findall(hide_secrets(f"?{query}")[1:]) if value == HIDDEN}
    signed = {name for name in names if name.lower() not in NAMES_A_FILE}
    if not mark or not signed:
        return address
    kept = [
        part
        for part in query.split("&")
        if (name := part.partition("=")[0]) not in signed and name.lower() not in SIGNED
    ]
    return base + ("?" + "&".join(kept) if kept else "")


def digest_address(address: str) -> str:
    """A name for the file at an address that tells no secret and is the same under every signature."""
    return hashlib.sha256(unsign_address(address).encode()).hexdigest()
