"""Decide which addresses a photograph may be fetched from. URLs of archives must not reach the private network.

The address that is checked is the address that is connected to. aiohttp resolves names through `GuardedResolver` and
connects to its answer. Hosts in numbers are not resolved: `check` looks at them.
"""

import ipaddress
import socket
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Addresses that `allow_private` admits: loopback and private networks (RFC 1918, RFC 4193).
PRIVATE = tuple(
    ipaddress.ip_network(n)
    for n in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
# Clouds give credentials to any program on their machines at these addresses: AWS (IPv6), Azure, Alibaba, Oracle.
# Other clouds use 169.254.169.254, which is link-local.
METADATA = frozenset(
    ipaddress.ip_address(a) for a in ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all public addresses so far (RFC 3513)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class PrivateAddressError(Exception):
    """A name has an address that may not be connected to."""


@dataclass(frozen=True)
class AddressGuard:
    """Decides which addresses may be connected to. `allow_private` admits this machine and private networks.

    Link-local, multicast and unspecified addresses and the metadata addresses of clouds are never admitted.
    """

    allow_private: bool = False

    def check(self, url: URL) -> str:
        """Check a URL without resolving it: returns `bad_url`, `private_address`, or "" if nothing is wrong."""
        if url.scheme not in ("http", "https") or not (host := url.host):
            return "bad_url"
        # By the same rule aiohttp takes a host for an address and does not resolve it. It includes the short and the
        # decimal forms of IPv4 (127.1, 2130706433), which only attackers write.
        if ":" not in host and not host.replace(".", "").isdigit():
            return ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return "bad_url"
        return "" if self.admits(host) else "private_address"

    def admits(self, address: str) -> bool:
        """Tell whether an address may be connected to."""
        ip = _embedded_ipv4(ipaddress.ip_address(address.partition("%")[0]))
        if ip in METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            return False
        if any(ip in network for network in PRIVATE):
            return self.allow_private
        return ip.is_global and not ip.is_reserved and (ip.version == 4 or ip in PUBLIC_V6)


class GuardedResolver(AbstractResolver):
    """Resolves names through another resolver. Refuses a name if any of its addresses is not admitted."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self.guard, self.resolver = guard, resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name. Raises PrivateAddressError, and OSError if the name is unknown."""
        found = await self.resolver.resolve(host, port, family)
        refused = [r["host"] for r in found if not self.guard.admits(r["host"])]
        if refused:
            raise PrivateAddressError(f"{host} has the address {', '.join(refused)}")
        return found

    async def close(self) -> None:
        await self.resolver.close()


def _embedded_ipv4(ip: Address) -> Address:
    """Return the IPv4 address that an IPv6 address contains or is translated to; else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
