"""images.answers: what URLs and answers mean; what servers really do is in test_fetch.py."""

import gzip
import os
import zlib
from pathlib import Path

import pytest
from yarl import URL

from aitax_ray.images import answers
from aitax_ray.images.answers import (
    BAD_URL,
    EMPTY,
    FORBIDDEN,
    MAY_PASS,
    NOT_FOUND,
    PASSING,
    REASONS,
    TOO_LARGE,
    Inflater,
    forbids_ai,
    parse_url,
    plain_text,
    plain_url,
    read_local,
    reason_of_status,
)


def test_every_reason_has_a_meaning() -> None:
    named = {value for name, value in vars(answers).items() if name[0].isupper() and isinstance(value, str)}
    assert named == REASONS.keys()
    assert REASONS.keys() > MAY_PASS > PASSING


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("https://a.example/1%2F2.jpg?size=%7Bl%7D", "https://a.example/1%2F2.jpg?size=%7Bl%7D"),
        ("  http://a.example/1.jpg\t", "http://a.example/1.jpg"),
        ("http://a.example/a photo é.jpg", "http://a.example/a%20photo%20%C3%A9.jpg"),
        ("http://a.example/100%.jpg", "http://a.example/100%25.jpg"),
        ("http://a.example\\b\\1.jpg?a\\b", "http://a.example/b/1.jpg?a%5Cb"),
    ],
)
def test_a_url_is_sent_unchanged_and_quoted_only_where_necessary(text: str, sent: str) -> None:
    assert str(parse_url(text)) == sent


@pytest.mark.parametrize("text", ["", "photo.jpg", "/photo.jpg", "http://", "http://[1", "http://a.example/\x00.jpg"])
def test_a_text_that_is_not_a_url_gives_none(text: str) -> None:
    assert parse_url(text) is None


def test_a_redirect_is_relative_to_the_url_that_redirects() -> None:
    base = URL("https://a.example/photos/1.jpg")
    assert str(parse_url("2.jpg", base)) == "https://a.example/photos/2.jpg"
    assert str(parse_url("//b.example/2.jpg", base)) == "https://b.example/2.jpg"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, ""), (206, ""), (304, "http_error"), (400, "http_error"), (401, "forbidden"), (403, "forbidden"),
        (404, "not_found"), (408, "timeout"), (410, "gone"), (418, "http_error"), (429, "too_many_requests"),
        (451, "forbidden"), (500, "server_error"), (503, "server_error"), (599, "server_error"),
    ],
)  # fmt: skip
def test_each_status_has_its_reason(status: int, reason: str) -> None:
    assert reason_of_status(status) == reason


def test_a_local_photograph_is_read_only_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "é 1.jpg").write_bytes(b"photo")
    (folder / "empty.jpg").touch()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.txt")
    base = folder.as_uri()

    def read(url: str, max_bytes: int = 5, below: str = str(folder)) -> tuple[bytes | None, str]:
        return read_local(url, below, max_bytes)

    assert read(f"{base}/%C3%A9%201.jpg") == (b"photo", "")
    assert read(f"{base}/%C3%A9%201.jpg", max_bytes=4) == (None, TOO_LARGE)
    assert read(f"{base}/empty.jpg") == (None, EMPTY)
    assert read(f"{base}/absent.jpg") == (None, NOT_FOUND)
    for outside in (f"{base}/../secret.txt", f"{base}/%2e%2e/secret.txt", f"{base}/link.jpg", "file://host/1.jpg"):
        assert read(outside) == (None, BAD_URL)
    assert read(f"{base}/%C3%A9%201.jpg", below="") == (None, BAD_URL)
    assert read(f"{base}/%00.jpg") == (None, BAD_URL)


def test_only_a_file_is_read_as_a_photograph(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # who opens it waits for ever
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "circle", ""):
        assert read_local(f"{tmp_path.as_uri()}/{name}", str(tmp_path), 5) == (None, BAD_URL)


def test_a_local_photograph_that_may_not_be_read_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:  # permissions would not do, tests may run as root
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    assert read_local(f"{tmp_path.as_uri()}/1.jpg", str(tmp_path), 5) == (None, FORBIDDEN)


@pytest.mark.parametrize(
    ("headers", "forbidden"),
    [
        ([], False),
        (["noindex, nofollow"], False),
        (["noai"], True),
        (["noindex", "NoImageAI"], True),
        (["noindex,noai , noarchive"], True),
        (["otherbot: noai"], False),
        (["otherbot: noai", "noimageai"], True),
        (["aitax-ray: noai"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], True),
        (["max-image-preview:large, noai"], True),
        (["max-snippet: -1, noai"], True),
        (["max-video-preview:-1, noimageai"], True),
        (["max-image-preview:large"], False),
        (["noaint"], False),
    ],
)
def test_a_host_may_ask_not_to_be_used_for_ai(headers: list[str], forbidden: bool) -> None:
    assert forbids_ai(headers) is forbidden


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_compressed_data_are_inflated_in_pieces_of_any_size(kind: str, step: int) -> None:
    text = bytes(range(256)) * 4
    # Several members one behind the other are one body, as with `cat a.gz b.gz`.
    packed = gzip.compress(text[:500]) + gzip.compress(text[500:]) if kind == "gzip" else zlib.compress(text)
    inflater = Inflater()
    assert b"".join(inflater.feed(packed[n : n + step], 10_000) for n in range(0, len(packed), step)) == text
    assert inflater.complete
    checksum = 8 if kind == "gzip" else 4
    for missing in (1, checksum - 1, checksum, checksum + 1, 20):
        cut = Inflater()
        inflated = cut.feed(packed[:-missing], 10_000)
        assert text.startswith(inflated)
        assert cut.complete == (inflated == text and missing <= checksum)


def test_raw_deflate_and_two_codings_are_inflated() -> None:
    text = os.urandom(1000) + bytes(1000)
    assert Inflater(("deflate",)).feed(zlib.compress(text)[2:-4], 10_000) == text
    assert Inflater(("deflate",)).feed(zlib.compress(text), 10_000) == text
    assert Inflater(("deflate",)).feed(gzip.compress(text), 10_000) == text
    twice = Inflater(("deflate", "gzip"))
    packed = gzip.compress(zlib.compress(text))
    assert twice.feed(packed[:500], 10_000) + twice.feed(packed[500:], 10_000) == text
    assert twice.complete
    cut = Inflater(("deflate", "gzip"))
    cut.feed(gzip.compress(zlib.compress(text)[:-20]), 10_000)
    assert not cut.complete


def test_bytes_after_compressed_data_are_ignored() -> None:
    for packed in (gzip.compress(b"text"), zlib.compress(b"text")):
        inflater = Inflater()
        assert inflater.feed(packed + b"\0\0garbage", 100) + inflater.feed(b"more", 100) == b"text"
        assert inflater.complete


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], ()),
        (["UTF-8"], ()),
        (["identity, identity"], ()),
        ([""], ()),
        (["GZIP"], ("gzip",)),
        (["deflate", "aws-chunked, x-gzip"], ("deflate", "x-gzip")),
        (["br"], None),
        (["gzip, zstd"], None),
        (["gzip, gzip, gzip"], None),
    ],
)
def test_a_content_encoding_that_is_not_a_coding_is_ignored(
    headers: list[str], expected: tuple[str, ...] | None
) -> None:
    assert answers.codings(headers) == expected


def test_no_more_is_inflated_than_asked_for() -> None:
    assert len(Inflater().feed(gzip.compress(b"0" * 1_000_000), 1000)) == 1000
    assert Inflater().complete
    with pytest.raises(zlib.error):
        Inflater().feed(b"no gzip", 1000)


def test_a_body_of_many_members_is_refused_however_little_is_in_them() -> None:
    Inflater().feed(gzip.compress(b"a") * 16, 1000)
    with pytest.raises(zlib.error):
        Inflater().feed(gzip.compress(b"") * 17, 1000)


def test_bytes_in_headers_that_are_not_text_can_be_stored_and_followed() -> None:
    header = "image/caf\udce9"  # as aiohttp passes on b"image/caf\xe9"
    assert plain_text(header) == "image/caf\ufffd"
    assert plain_url("/caf\udce9?a=%20b c") == "/caf%E9?a=%20b c"
    assert plain_url("/\u00fc") == "/%C3%BC"
