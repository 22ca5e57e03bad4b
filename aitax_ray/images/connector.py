"""Connections for aiohttp whose answers need not keep all rules of HTTP: `wire` rewrites them first."""

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from aitax_ray.images.wire import AnswerRewriter


class _Handler(ResponseHandler):
    """aiohttp's reader of answers, with a rewriter in front of it."""

    _rewriter = AnswerRewriter()

    def set_response_params(self, **params: Any) -> None:
        self._rewriter = AnswerRewriter()  # aiohttp calls this once per request
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp calls itself after a pause
            super().data_received(data)
            return
        rewriter, payload = self._rewriter, self._payload
        if rewritten := rewriter.feed(data):
            super().data_received(rewritten)
        elif not rewriter.is_done:
            self.start_timeout()  # the server is at work
        if rewriter.is_broken and payload is not None and not payload.is_eof():
            # aiohttp does not tell the body that its parser failed: whoever reads it would wait for ever.
            payload.set_exception(aiohttp.ClientPayloadError("the body is not HTTP"))
        if rewriter.has_surplus and self.transport is not None:
            self.force_close()
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        if rest := self._rewriter.end():
            super().data_received(rest)
        super().connection_lost(exc)


class LenientConnector(aiohttp.TCPConnector):
    """Opens such connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        factory: Any = functools.partial(_Handler, loop=asyncio.get_running_loop())
        self._factory = factory
