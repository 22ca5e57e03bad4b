import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.helpers import is_ip_address
from yarl import URL

from aitax_ray.images.addresses import AddressGuard, GuardedResolver, PrivateAddressError

NEVER = (
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "fd00:ec2::254",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "2001:db8::1",
    "100.64.0.1",
    "fec0::1",
    "64:ff9b:1::1",
    "::7f00:1",
    "100.100.100.200",
    "192.0.0.192",
    "169.254.170.2",
    "::ffff:168.63.129.16",
    "2002:a83f:8110::1",
    "0.1.2.3",
    "198.18.0.1",
    "ff05::2",
    "fe80::1%25",
    "2001::1",
    "::2",
)
PRIVATE = (
    "127.0.0.1",
    "127.8.9.1",
    "10.0.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fd12::1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "64:ff9b::a00:1",
    "2002:c0a8:1::1",
    "2002:7f00:1::1",
    "fdff:ffff::1",
)
PUBLIC = ("8.8.8.8", "52.218.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")


class Names(AbstractResolver):
    """Knows one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=a, port=port, family=family, proto=0, flags=0) for a in self.addresses
        ]

    async def close(self) -> None: ...


@pytest.mark.parametrize("address", NEVER)
def test_dangerous_addresses_are_never_admitted(address: str) -> None:
    assert not AddressGuard(allow_private=False).admits(address)
    assert not AddressGuard(allow_private=True).admits(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_admitted_only_when_allowed(address: str) -> None:
    assert not AddressGuard(allow_private=False).admits(address)
    assert AddressGuard(allow_private=True).admits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_admitted(address: str) -> None:
    assert AddressGuard().admits(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/a.jpg", ""),
        ("https://example.org:8443/a.jpg", ""),
        ("http://8.8.8.8/a.jpg", ""),
        ("ftp://example.org/a.jpg", "bad_url"),
        ("file:///etc/passwd", "bad_url"),
        ("gopher://example.org/", "bad_url"),
        ("http:///a.jpg", "bad_url"),
        ("/a.jpg", "bad_url"),
        ("http://127.0.0.1/", "private_address"),
        ("http://[::1]/", "private_address"),
        ("http://[::ffff:7f00:1]/", "private_address"),
        ("http://169.254.169.254/latest/meta-data/", "private_address"),
        ("http://2130706433/", "bad_url"),  # 127.0.0.1 in one number
        ("http://127.1/", "bad_url"),
        ("http://１２７.0.0.1/", "private_address"),
        ("http://127.0.0.1./", "bad_url"),
        ("http://0177.0.0.1/", "bad_url"),
        ("http://127.0.0.1:99/", "private_address"),
        ("http://someone:secret@10.0.0.1/", "private_address"),
        ("http://[fe80::1%25eth0]/", "private_address"),
        ("http://[::ffff:169.254.169.254]/", "private_address"),
        ("http://[64:ff9b::7f00:1]/", "private_address"),
        # Not for aiohttp to connect to as they stand: the resolver finds that they are 127.0.0.1.
        ("http://0x7f.0.0.1/", ""),
        ("http://localhost/", ""),
    ],
)
def test_a_url_is_checked_without_resolving_it(url: str, reason: str) -> None:
    assert AddressGuard().check(URL(url)) == reason


async def test_a_name_with_public_addresses_is_resolved() -> None:
    found = await GuardedResolver(AddressGuard(), Names("8.8.8.8", "2606:4700::1111")).resolve("example.org")
    assert [r["host"] for r in found] == ["8.8.8.8", "2606:4700::1111"]


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("8.8.8.8", "::1")])
async def test_a_name_is_refused_when_one_of_its_addresses_is_private(addresses: tuple[str, ...]) -> None:
    with pytest.raises(PrivateAddressError):
        await GuardedResolver(AddressGuard(), Names(*addresses)).resolve("example.org")


def test_addresses_that_aiohttp_does_not_resolve_are_checked() -> None:
    for host in ("127.0.0.1", "127.1", "0", "2130706433", "127.0.0.1.", "１２７.1", "[::1]", "[::ffff:7f00:1]",
                 "[fe80::1%25lo]", "0177.1", "²"):  # fmt: skip
        try:
            url = URL(f"http://{host}/")
        except ValueError:
            continue
        assert not is_ip_address(url.raw_host) or AddressGuard().check(url), host


async def test_an_unknown_name_raises_the_error_of_the_resolver() -> None:
    class Unknown(Names):
        async def resolve(self, *_: object) -> list[ResolveResult]:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with pytest.raises(socket.gaierror):
        await GuardedResolver(AddressGuard(), Unknown()).resolve("example.org")
