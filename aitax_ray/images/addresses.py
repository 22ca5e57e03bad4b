"""Which addresses a photograph may be fetched from. An archive's URLs are strangers' input: none may reach inside.

The check is made on what is connected to, with no gap between: names are resolved through `GuardedResolver`, whose
answer is what aiohttp connects to, and hosts written as numbers, for which no resolver is asked, by `check`.
"""

import ipaddress
import socket
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What `allow_private` opens: loopback, and the ranges that are for use inside (RFC 1918, RFC 4193).
PRIVATE = tuple(
    ipaddress.ip_network(n)
    for n in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
# Where clouds hand out credentials to whoever asks from inside: AWS (IPv6), Azure, Alibaba, Oracle. Those not named
# here use 169.254.169.254, which is link-local.
METADATA = frozenset(
    ipaddress.ip_address(a) for a in ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all that is handed out so far (RFC 3513)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class PrivateAddressError(Exception):
    """A name that leads, in whole or in part, to an address that may not be asked."""


@dataclass(frozen=True)
class AddressGuard:
    """Says which addresses may be asked; `allow_private` admits those of this machine and of its own network.

    Link-local, multicast, unspecified and the clouds' metadata addresses are never admitted.
    """

    allow_private: bool = False

    def check(self, url: URL) -> str:
        """Tell what is wrong with a URL as it is written: `bad_url`, `private_address`, or "" when nothing is."""
        if url.scheme not in ("http", "https") or not (host := url.host):
            return "bad_url"
        # aiohttp takes a host for an address, and asks no resolver, by this very rule. The short and the decimal
        # forms of IPv4 (127.1, 2130706433) pass it too, but nobody who means well writes them.
        if ":" not in host and not host.replace(".", "").isdigit():
            return ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return "bad_url"
        return "" if self.admits(host) else "private_address"

    def admits(self, address: str) -> bool:
        """Tell whether an address in numbers may be connected to."""
        ip = _stands_for(ipaddress.ip_address(address.partition("%")[0]))
        if ip in METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            return False
        if any(ip in network for network in PRIVATE):
            return self.allow_private
        return ip.is_global and not ip.is_reserved and (ip.version == 4 or ip in PUBLIC_V6)


class GuardedResolver(AbstractResolver):
    """Resolves names through another resolver; refuses a name of whose addresses even one is not admitted."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self.guard, self.resolver = guard, resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name. Raises PrivateAddressError, and OSError where the name is not known."""
        found = await self.resolver.resolve(host, port, family)
        refused = [r["host"] for r in found if not self.guard.admits(r["host"])]
        if refused:
            raise PrivateAddressError(f"{host} leads to {', '.join(refused)}")
        return found

    async def close(self) -> None:
        await self.resolver.close()


def _stands_for(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address is another way to write, or is translated to on its way."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
