"""images.wire: what aiohttp's parser is given in place of what came."""

import pytest

from aitax_ray.images.wire import MAX_CHUNK_LINE, MAX_HEAD_BYTES, AnswerRewriter

OK = b"HTTP/1.1 200 OK\r\n"
NOT_HTTP = b"?\r\n"


def rewrite(data: bytes, step: int = 1 << 20) -> bytes:
    """What is passed on of an answer that comes in steps, and then the connection ends."""
    rewriter = AnswerRewriter()
    passed = b"".join(rewriter.feed(data[n : n + step]) for n in range(0, len(data), step))
    return passed + rewriter.end()


def answer(*headers: bytes, body: bytes = b"", status: int = 200) -> bytes:
    """An answer that keeps the rules, as the rewriter writes it."""
    return b"HTTP/1.1 %d \r\n" % status + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("came", "passed"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", answer(b"Content-Length: 3", body=b"abc")),
        # the status line
        (b"\r\n" + OK + b"Content-Length: 0\r\n\r\n", answer(b"Content-Length: 0")),
        (b"HTTP/1.1 404\nContent-Length: 0\n\n", answer(b"Content-Length: 0", status=404)),
        (b"http/1.1   200 ok\r\nContent-Length: 0\r\n\r\n", answer(b"Content-Length: 0")),
        (b"ICY 200 OK\r\n\r\nabc", answer(b"Connection: close", body=b"abc")),
        (b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n", answer(b"Content-Length: 0")),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", answer(b"Connection: close", body=b"abc")),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
         answer(b"Content-Length: 1", body=b"a")),
        # headers
        (OK + b"X-A : b\r\nContent-Length: 0\r\n\r\n", answer(b"X-A: b", b"Content-Length: 0")),
        (OK + b"no header\r\n: a\r\nX B: c\r\nContent-Length: 0\r\n\r\n", answer(b"Content-Length: 0")),
        (OK + b"X-A: b\r\n  c\r\nContent-Length: 0\r\n\r\n", answer(b"X-A: b c", b"Content-Length: 0")),
        (OK + b" X-A: b\r\nX-B: \xe9\0\r\nContent-Length: 0\r\n\r\n", answer(b"X-B: \xe9", b"Content-Length: 0")),
        # lengths
        (OK + b"Content-Length: 1\r\ncontent-length: 1\r\n\r\na", answer(b"Content-Length: 1", body=b"a")),
        (OK + b"Content-Length: 1, 1\r\n\r\na", answer(b"Content-Length: 1", body=b"a")),
        (OK + b"Content-Length: 01\r\nContent-Length: 1\r\n\r\na", answer(b"Content-Length: 1", body=b"a")),
        (OK + b"Content-Length: -1\r\n\r\nabc", answer(body=b"abc")),
        (OK + b"Content-Length:\r\n\r\nabc", answer(body=b"abc")),
        (OK + b"Content-Length: 3 bytes\r\n\r\nabc", answer(b"Content-Length: 3", body=b"abc")),
        (OK + b"Content-Length: 99999999999999999999\r\n\r\nabc", answer(body=b"abc")),
        (OK.replace(b"\r", b"\r\r") + b"Content-Length: 1\r\r\n\r\r\na", answer(b"Content-Length: 1", body=b"a")),
        (OK + b"Sec-WebSocket-Key1: x\r\nUpgrade: h2c\r\n\r\n", answer()),
        (OK + b"Content-Length: 1\r\n\r\nabc", answer(b"Content-Length: 1", body=b"a")),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", answer(b"Content-Length: 0", status=304)),
        # before the answer
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: y\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
         answer(b"Content-Length: 0")),
        # its end is missing
        (b"HTTP/1.1 301 Moved\r\nLocation: /a\r\n", answer(b"Location: /a", b"Content-Length: 0", status=301)),
        (OK + b"X-A: b\r\n", b""),
        (b"HTTP/x\r\nX-A: b\r\n", b""),
        (OK + b"Content-Length: 3\r\n\r\nab", answer(b"Content-Length: 3", body=b"ab")),
        (b"", b""),
        # no HTTP
        (b"SSH-2.0-OpenSSH\r\n", NOT_HTTP),
        (b"\xff\xd8\xff", NOT_HTTP),
        (b"HTTP/1.1 20\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 2000\r\n\r\n", NOT_HTTP),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", NOT_HTTP),
        (OK + b"Content-Length: many\r\n\r\nab", NOT_HTTP),
    ],
)  # fmt: skip
def test_an_answer_is_rewritten_by_the_rules(came: bytes, passed: bytes, step: int) -> None:
    assert rewrite(came, step) == passed


def unchunked(passed: bytes) -> tuple[bytes, bool]:
    """The body of what is passed on in chunks, and whether its end is there. Strict."""
    head, _, rest = passed.partition(b"\r\n\r\n")
    assert head.endswith(b"Transfer-Encoding: chunked")
    assert b"Content-Length" not in head
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        part, end, rest = rest[: int(size, 16)], rest[int(size, 16) : int(size, 16) + 2], rest[int(size, 16) + 2 :]
        assert end == b"\r\n"
        body += part
        if not part:
            assert not rest
            return body, True
    return body, False


JPEG_END = b"photograph\xff\xd9"


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("chunks", "body", "is_whole"),
    [
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (b"3;x=y\r\nabc\r\n0\r\nTrailer: a\r\nX: b\r\n\r\n", b"abc", True),
        (b"3  \nabc\n0\n\n", b"abc", True),
        (b"003\r\nabc\r\n000\r\n\r\nsurplus", b"abc", True),
        (b"3\r\nabc\r\n0\r\n", b"abc", True),
        (b"3\r\nabc\r\n", b"abc", False),
        (b"5\r\nabc", b"abc", False),
        (b"c\r\n%b\r\n" % JPEG_END, JPEG_END, True),
        (b"c\r\n%b" % JPEG_END, JPEG_END, True),
    ],
)
@pytest.mark.parametrize("length", [b"", b"Content-Length: 7\r\n"])
def test_chunks_are_read_as_curl_does(chunks: bytes, body: bytes, is_whole: bool, length: bytes, step: int) -> None:
    came = OK + length + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks
    assert unchunked(rewrite(came, step)) == (body, is_whole)


@pytest.mark.parametrize(
    "chunks", [b"some\r\n", b"-1\r\n", b"0x1\r\na\r\n", b"f" * 17 + b"\r\n", b"1\r\nabc\r\n", b"\r\n"]
)
def test_invalid_chunks_make_the_parser_fail(chunks: bytes) -> None:
    rewriter = AnswerRewriter()
    assert rewriter.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks).endswith(NOT_HTTP)
    assert rewriter.is_broken


def test_a_body_that_was_compressed_on_the_way_says_so() -> None:
    head = rewrite(OK + b"Content-Encoding: deflate\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
    assert head == answer(b"Content-Encoding: deflate", b"Content-Encoding: gzip", b"Transfer-Encoding: chunked")


def test_bytes_after_the_end_are_noticed() -> None:
    for surplus, seen in ((b"", False), (b"\r\n", False), (b"<br />", True)):
        rewriter = AnswerRewriter()
        rewriter.feed(OK + b"Content-Length: 1\r\n\r\na" + surplus)
        assert (rewriter.is_done, rewriter.is_broken, rewriter.has_surplus) == (True, False, seen)
        assert rewriter.feed(b"more") == b""
        assert rewriter.has_surplus


@pytest.mark.parametrize(
    ("begin", "repeated", "limit"),
    [
        (b"", b"\r\n", MAX_HEAD_BYTES),
        (b"HTTP/1.1 200 ", b"x", MAX_HEAD_BYTES),
        (OK, b"X: y\r\n", MAX_HEAD_BYTES),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", MAX_CHUNK_LINE),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", MAX_HEAD_BYTES),
    ],
)
def test_an_answer_without_end_is_read_up_to_a_limit(begin: bytes, repeated: bytes, limit: int) -> None:
    rewriter = AnswerRewriter()
    rewriter.feed(begin)
    part = repeated * 100
    for _ in range(2 * limit // len(part)):
        rewriter.feed(part)
        assert len(rewriter._unread) <= limit + len(part)
    assert rewriter.is_broken
