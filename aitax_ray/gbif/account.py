"""The user's account at GBIF, which a request for a download takes: from the environment or netrc, never a flag."""

import netrc
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aitax_ray.errors import GbifError

HOW = "set GBIF_USER and GBIF_PWD (and GBIF_EMAIL), or write a line for {host} into ~/.netrc"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Account:
    """Whom GBIF makes a download for."""

    user: str
    password: str = field(repr=False)
    email: str = ""


def find_account(gbif_url: str) -> Account | None:
    """The account from GBIF_USER, GBIF_PWD and GBIF_EMAIL (as pygbif and rgbif call them), else from ~/.netrc (or
    $NETRC); None when there is none.

    Raises GbifError when the netrc file cannot be used, or the password would go over the network in the clear.
    """
    try:
        parts = urlsplit(gbif_url)
    except ValueError as error:
        raise GbifError(f"--gbif-url {gbif_url} is no address: {error}") from error
    host = parts.hostname or ""
    user, password = os.environ.get("GBIF_USER", ""), os.environ.get("GBIF_PWD", "")
    if not (user and password):
        user, password = _from_netrc(host, gbif_url)
    if not (user and password):
        return None
    if parts.scheme != "https" and host not in LOOPBACK:
        raise GbifError(
            f"--gbif-url {gbif_url} is not https, and the password of your GBIF account does not go there: use https"
        )
    return Account(user, password, os.environ.get("GBIF_EMAIL", ""))


def how(gbif_url: str) -> str:
    """How to give an account, as part of a sentence."""
    return HOW.format(host=urlsplit(gbif_url).hostname or "the host")


def _from_netrc(host: str, gbif_url: str) -> tuple[str, str]:
    try:
        # Not `authenticators`, which gives the default entry to hosts without their own: no account of GBIF.
        entry = netrc.netrc(os.environ.get("NETRC") or None).hosts.get(host)
    except FileNotFoundError:
        entry = None
    except (netrc.NetrcParseError, OSError, UnicodeError) as error:
        # Its message may quote the line, with the password.
        raise GbifError(
            f"the netrc file cannot be read ({type(error).__name__}): mend it, or {how(gbif_url)}"
        ) from None
    return (entry[0] or "", entry[2] or "") if entry else ("", "")
