import doctest
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import duckdb
import pytest

from aitax_ray import web
from aitax_ray.web import (
    hide_secrets,
    hide_secrets_in,
    host_of,
    host_sql,
    publish_address,
    retry_after_s,
    web_address,
)

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
    found = duckdb.execute(f"SELECT {host_sql('url')} FROM (SELECT ? AS url)", [url]).fetchall()
    assert (host_of(url), found) == (host, [(host,)])


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/frogs", "s3://***@bucket/frogs"),
        ("s3://KEY:SEC/RE+T=@bucket/a", "s3://***@bucket/a"),
        ("s3://KEY:SEC?RE#T@bucket/a", "s3://***@bucket/a"),
        ("S3://KEY@bucket", "S3://***@bucket"),
        ("https://token@x.org/a", "https://***@x.org/a"),
        ("https://me:p@ss:word@x.org", "https://***@x.org"),
        ("https://me:o'hara@x.org", "https://***@x.org"),
        ("abfss://container@account.example/a", "abfss://container@account.example/a"),
        ("abfss://account:SECRET@container/a", "abfss://***@container/a"),
        ("s3:/KEY:SECRET@bucket/a", "s3:/***@bucket/a"),  # what pathlib makes of it
        ("/data/s3:/KEY:SECRET@bucket", "/data/s3:/***@bucket"),
        ("https://x.org:8080/@ann/1.jpg", "https://x.org:8080/@ann/1.jpg"),
        ("s3://bucket/a b@c", "s3://bucket/a b@c"),
        ("no address: me@x.org", "no address: me@x.org"),
        ("'s3://K:S@a' and (https://m:p@b/c)", "'s3://***@a' and (https://***@b/c)"),
        ('{"a":"s3://bucket","b":"me@x.org"}', '{"a":"s3://bucket","b":"me@x.org"}'),
        ("https://x.org/a?id=1&size=2#top", "https://x.org/a?id=1&size=2#top"),
        *(
            (f"https://x.org/a?b=1&{name}=S%2Fe+c&c=2", f"https://x.org/a?b=1&{name}=***&c=2")
            for name in (
                "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "X-Goog-Signature", "AWSAccessKeyId",
                "Signature", "sig", "token", "access_token", "api_key", "apikey", "subscription-key", "password",
                "client_secret", "bearer", "JSESSIONID", "Policy", "X%2DAmz%2DSignature",
            )
        ),
        ("https://x.org/a;jsessionid=S?b=1", "https://x.org/a;jsessionid=***"),
        ("https://x.org/#access_token=S", "https://x.org/#access_token=***"),
        ("https://x.org/a?key=AIzaSyA1234567890abc", "https://x.org/a?key=***"),
        ("https://x.org/a?key=frogs/1.jpg", "https://x.org/a?key=frogs/1.jpg"),
        ("https://x.org/a?author=Ann&design=2", "https://x.org/a?author=Ann&design=2"),
        ("https://x.org/a?next=https%3A%2F%2Fme%3Apw%40y.org", "https://x.org/a?next=***"),
        ("https://x.org/a?next=https%3A%2F%2Fy.org", "https://x.org/a?next=https%3A%2F%2Fy.org"),
    ],
)  # fmt: skip
def test_a_text_is_shown_without_users_passwords_and_keys(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    assert hide_secrets(shown) == shown


@pytest.mark.parametrize("text", ["a:/b:c" * 10_000, "x://" + "a" * 100_000, "?a=" * 30_000])
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    begin = time.process_time()
    assert hide_secrets(text) == text
    assert time.process_time() - begin < 5  # it takes some 0.3 s; quadratic time would be minutes


def test_of_data_only_addresses_are_changed() -> None:
    data = {"root": "s3://K:S@b", "photos": "/home/a?token=b", "several": ("s3://K:S@b", 1), "none": None}
    shown = {"root": "s3://***@b", "photos": "/home/a?token=b", "several": ["s3://***@b", 1], "none": None}
    assert hide_secrets_in(data) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/home/ann/frogs.zip", "frogs.zip"),
        ("/home/ann/frogs/", "frogs"),
        ("FILE:///home/ann/frogs.zip", "frogs.zip"),
        ("file:/home/ann/frogs.zip", "frogs.zip"),
        ("zip://a.csv::file:///home/ann/frogs.zip", "frogs.zip"),
        ("s3://K:S@bucket/frogs.zip", "s3://***@bucket/frogs.zip"),
        ("http://[bad", "http://[bad"),
        ("10.15468/dl.abc", "dl.abc"),
    ],
)
def test_an_address_for_strangers_names_no_place_on_this_machine(address: str, shown: str) -> None:
    assert publish_address(address) == shown


def test_retry_after_is_a_number_or_a_date_or_unreadable() -> None:
    assert retry_after_s(" 120 ") == 120.0
    assert retry_after_s(format_datetime(datetime.now(UTC) + timedelta(minutes=5))) == pytest.approx(300, abs=5)
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    # The answer says when it was sent: a wrong clock on this side changes nothing.
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:26:30 GMT") == 90.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", "yesterday") == 0.0
    assert [retry_after_s(value) for value in ("", "soon", "-1", "²", "1.5")] == [None] * 5


def test_the_examples_are_right() -> None:
    assert doctest.testmod(web).failed == 0
