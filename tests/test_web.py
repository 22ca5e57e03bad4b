import doctest
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import duckdb
import pytest

from aitax_ray import web
from aitax_ray.web import host_of, host_sql, retry_after_s, web_address

HOSTS = {
    "https://example.org/a.jpg": "example.org",
    "HTTP://me@Example.org:8080?x=/": "example.org",
    "https://me:pass@example.org#a": "example.org",
    "https://a@b@example.org/": "example.org",
    " http://[2001:DB8::1]:80/a": "[2001:db8::1]",
    "file:///home/a.jpg": "",
    "ftp://example.org/a.jpg": "",
    "http://[bad": "",
    "a.jpg": "",
    "": "",
}


@pytest.mark.parametrize(("url", "host"), HOSTS.items())
def test_the_host_is_the_same_in_python_and_in_duckdb(url: str, host: str) -> None:
    told = duckdb.execute(f"SELECT {host_sql('url')} FROM (SELECT ? AS url)", [url]).fetchall()
    assert (host_of(url), told) == (host, [(host,)])


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://x.org/a.jpg?id=1&size=2", "https://x.org/a.jpg?id=1&size=2"),
        (" HTTP://x.org/a.jpg", "HTTP://x.org/a.jpg"),
        ("https://x.org/a.jpg?X-Amz-Signature=abc", "https://x.org/a.jpg?X-Amz-Signature=***"),
        ("file:///home/ann/a.jpg", ""),
        ("FILE:///home/ann/a.jpg", ""),
        ("/home/ann/a.jpg", ""),
        ("s3://bucket/a.jpg", ""),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_an_address_for_strangers_leads_to_the_web_and_holds_no_secret(address: str, shown: str) -> None:
    assert web_address(address) == shown


def test_retry_after_is_a_number_or_a_date_or_unreadable() -> None:
    assert retry_after_s(" 120 ") == 120.0
    assert retry_after_s(format_datetime(datetime.now(UTC) + timedelta(minutes=5))) == pytest.approx(300, abs=5)
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [retry_after_s(value) for value in ("", "soon", "-1", "²", "1.5")] == [None] * 5


def test_the_examples_are_right() -> None:
    assert doctest.testmod(web).failed == 0
