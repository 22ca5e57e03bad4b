"""Find the user's account at GBIF, which a request for a download needs: in the environment or netrc, never a flag."""

import netrc
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aitax_ray.errors import GbifError

ADVICE = "set GBIF_USER and GBIF_PWD (and GBIF_EMAIL), or write a line for {host} into ~/.netrc"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Account:
    """The account in whose name GBIF makes a download."""

    user: str
    password: str = field(repr=False)
    email: str = ""


def find_account(gbif_url: str) -> Account | None:
    """Find the account in GBIF_USER, GBIF_PWD and GBIF_EMAIL (the names that pygbif and rgbif use), else in ~/.netrc
    (or $NETRC); None when there is none.

    Raises GbifError when the netrc file cannot be used, or the password would go over the network in the clear.
    """
    try:
        parts = urlsplit(gbif_url)
    except ValueError as error:
        raise GbifError(f"--gbif-url {gbif_url} is not an address: {error}") from error
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


def explain_account(gbif_url: str) -> str:
    """Say how to give an account, as the end of a sentence."""
    return ADVICE.format(host=urlsplit(gbif_url).hostname or "the host")


def _from_netrc(host: str, gbif_url: str) -> tuple[str, str]:
    try:
        # Not `authenticators`: for a host without an entry it returns the default one, which is no account at GBIF.
        entry = netrc.netrc(os.environ.get("NETRC") or None).hosts.get(host)
    except FileNotFoundError:
        entry = None
    except (netrc.NetrcParseError, OSError, UnicodeError) as error:
        # The message of `error` may quote the line with the password, so it is not shown.
        raise GbifError(
            f"the netrc file cannot be read ({type(error).__name__}): mend it, or {explain_account(gbif_url)}"
        ) from None
    return (entry[0] or "", entry[2] or "") if entry else ("", "")
