"""Connections for aiohttp that accept answers which break rules of HTTP: `wire` rewrites the answers first."""

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from aitax_ray.images.wire import AnswerRewriter


class _Handler(ResponseHandler):
    """aiohttp's protocol, with a rewriter in front of its parser."""

    _rewriter: AnswerRewriter | None = None

    def set_response_params(self, **params: Any) -> None:
        self._rewriter = AnswerRewriter()  # aiohttp calls this once per request
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        rewriter, payload = self._rewriter, self._payload
        # aiohttp keeps bytes that come before the first request, and calls this without bytes after a pause.
        if rewriter is None or not data:
            super().data_received(data)
            return
        if rewritten := rewriter.feed(data):
            super().data_received(rewritten)
        elif not rewriter.is_done:
            self.start_timeout()  # bytes have come, though none for the parser
        if rewriter.is_broken and payload is not None and not payload.is_eof():
            # When its parser fails, aiohttp does not end the body. Its reader would wait for ever.
            payload.set_exception(aiohttp.ClientPayloadError("the body is not HTTP"))
        if rewriter.has_surplus and self.transport is not None:
            self.force_close()
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._rewriter is not None and (rest := self._rewriter.end()):
            super().data_received(rest)
        super().connection_lost(exc)


class LenientConnector(aiohttp.TCPConnector):
    """Opens connections that accept such answers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        factory: Any = functools.partial(_Handler, loop=asyncio.get_running_loop())
        self._factory = factory
