"""An HTTP client for GBIF: it says who it is, waits when the host asks it to, and tries a bounded number of times."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import httpx

from aitax_ray import __version__
from aitax_ray.errors import GbifError
from aitax_ray.gbif.deadline import Deadline
from aitax_ray.web import retry_after_s

log = logging.getLogger(__name__)

TRIES = 6
FIRST_WAIT_S = 1.0  # then 2, 4, 8, 16
MAX_WAIT_S = 120.0  # after a longer Retry-After the run ends
MAX_BYTES = 64 * 2**20  # of an answer that is read into memory; a page of 300 occurrences takes a few MB
MAX_READ_S = 300.0  # for reading it: a host that sends a byte a minute never reaches the timeout
MAX_HEAD_S = 150.0  # until an answer begins
MAX_REDIRECTS = 10
LATER = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses after which the same request may succeed
NOT_TAKEN = frozenset({425, 429, 503})  # with a Retry-After these say that the host has done nothing yet


class Client:
    """A pool of connections for one thread. Tests pass their own `sleep`."""

    def __init__(
        self, contact: str = "", *, sleep: Callable[[float], None] = time.sleep, timeout_s: float = 60.0
    ) -> None:
        agent = f"aitax-ray/{__version__}" + (f" (+{contact})" if contact else "")
        # Archives are compressed already, and a Range counts the bytes as they are stored.
        headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        self.sleep = sleep
        self.http = httpx.Client(headers=headers, timeout=timeout_s)
        self._deadline = Deadline(MAX_HEAD_S)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        post: Any = None,
        auth: tuple[str, str] | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        """Send a GET, or `post` as JSON, and return the answer with its body unread; the caller closes it.

        `auth`, a user and a password, goes to the host of `url` only. Statuses that say "later" are waited for. With
        `repeatable` False the request is sent again only when the host has surely not taken it, and such a status may
        come back. Raises GbifError when the host stays silent, keeps saying "later", or asks to wait for longer than
        MAX_WAIT_S.
        """
        host = _host(url)
        for attempt in range(TRIES):
            wait = self.pause_s(attempt)
            try:
                response = self._send(url, headers, post, auth)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
                raise GbifError(f"{url} cannot be opened ({error}): check the address") from error
            except httpx.TransportError as error:
                problem = f"does not answer ({str(error) or type(error).__name__})"
                if not repeatable and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise GbifError(f"{host} {problem}: look on gbif.org whether it took the request") from error
            else:
                received = response.headers
                asked = retry_after_s(received.get("Retry-After", ""), received.get("Date", ""))
                is_not_taken = response.status_code in NOT_TAKEN and asked is not None
                if response.status_code not in LATER or not (repeatable or is_not_taken):
                    return response
                problem = f"answers {response.status_code} {response.reason_phrase}"
                response.close()
                if asked is not None and asked > MAX_WAIT_S:
                    raise GbifError(f"{host} {problem} and asks to wait {asked:,.0f} s: run the same command later")
                wait = wait if asked is None else asked
            if attempt < TRIES - 1:
                log.info("%s %s; trying again in %.0f s", host, problem, wait)
                self.sleep(wait)
        raise GbifError(
            f"{host} {problem}, {TRIES} times: check the network and the address, then run the same command again"
        )

    def _send(
        self, url: str, headers: Mapping[str, str] | None, post: Any, auth: tuple[str, str] | None
    ) -> httpx.Response:
        """Send a request once and follow redirects, without reading the bodies that come with them."""
        request = self.http.build_request(
            "GET" if post is None else "POST",
            url,
            headers=headers,
            json=post,
            extensions={"trace": self._deadline.trace},
        )
        with self._deadline.running():
            response = self.http.send(request, stream=True, auth=auth)
        for _ in range(MAX_REDIRECTS):
            if response.next_request is None:
                return response
            response.close()
            with self._deadline.running():
                response = self.http.send(response.next_request, stream=True)
        response.close()
        raise httpx.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")

    def json(self, url: str, post: Any = None) -> tuple[int, Any]:
        """Ask for JSON; return the status and the decoded body, or the body as text where a 4xx has no JSON.

        With `post` it is sent as JSON. Raises GbifError when the host does not answer as it should.
        """
        for attempt in range(TRIES):
            response = self.open(url, post=post)
            try:
                body = read(response)
                return response.status_code, _decoded(body)
            except httpx.RequestError as error:
                log.info("%s broke off (%s); trying again", _host(url), error)
                self.sleep(self.pause_s(attempt))
            except (ValueError, RecursionError):
                if response.status_code >= 400:
                    return response.status_code, body.decode(errors="replace")
                raise GbifError(f"{url} does not answer in JSON: check --gbif-url") from None
            finally:
                response.close()
        raise GbifError(f"{_host(url)} breaks off every answer: check the network, then run the same command again")

    @staticmethod
    def pause_s(attempt: int) -> float:
        """Seconds to wait after the attempt of that number."""
        return float(FIRST_WAIT_S * 2**attempt)


def read(response: httpx.Response) -> bytes:
    """Read a body. Raises GbifError when it is too long or too slow, httpx.RequestError when it breaks off."""
    body, until = bytearray(), time.monotonic() + MAX_READ_S
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise GbifError(f"{response.url} answers with more than {MAX_BYTES:,} bytes: check --gbif-url")
        if time.monotonic() > until:
            raise GbifError(f"{response.url} takes more than {MAX_READ_S:,.0f} s for its answer: try later")
    return bytes(body)


def _decoded(body: bytes) -> Any:
    value = json.loads(body)
    if re.search(rb"\\u[dD][89a-fA-F]", body):  # half a surrogate pair can be escaped, but not written to any file
        value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return value


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host or url
    except httpx.InvalidURL:
        return url
