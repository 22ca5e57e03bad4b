"""Serves a demo world on loopback: the routes of GBIF's API that a download needs, and the photographs.

    GET /v1/occurrence/download/{key}                   GBIF's description of the download
    GET /v1/occurrence/download/{prefix}/{suffix}       the same, by DOI
    GET /v1/occurrence/download/request/{key}.zip       the archive; also parts of it (Range requests)
    GET /photos/{name}.jpg                              a photograph
    GET /occurrence/{gbif_id}                           the page of an occurrence, to which the archive links

Files are read per request: the server starts before the world is built, because the archive contains its address.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from aiohttp import web

from aitax_ray.errors import AitaxError

HOST = "127.0.0.1"  # other machines cannot connect
SHUTDOWN_TIMEOUT_S = 1.0  # longest wait for open connections when the server stops


@contextlib.contextmanager
def serve_world(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve the world in `folder` while the context lasts. Yields its address, such as http://127.0.0.1:40123.

    Port 0 chooses a free one. Raises AitaxError when the port is taken.
    """
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise AitaxError(
            f"the server of the demo world cannot use port {port} ({error.strerror}): "
            "stop the program that uses the port, or give another --root"
        ) from None
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(folder, listener, started)), name="demo world", daemon=True
    )
    thread.start()
    loop, stop = started.result()
    try:
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _serve(
    folder: Path, listener: socket.socket, started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]"
) -> None:
    runner = web.AppRunner(make_app(folder), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    stop = asyncio.Event()
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
    except BaseException as error:
        listener.close()
        started.set_exception(error)
        return
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()
    await runner.cleanup()


def make_app(folder: Path) -> web.Application:
    """Make the routes for the files of `folder`."""

    def read_record() -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((folder / "download.json").read_text(encoding="utf-8"))
            record["size"] = (folder / "archive.zip").stat().st_size
        except FileNotFoundError:  # not built yet
            return None
        return record

    async def download(request: web.Request) -> web.StreamResponse:
        record = await asyncio.to_thread(read_record)
        asked = "/".join(request.match_info.values())
        if record is None or asked.lower() not in (record["key"], record["doi"]):  # DOIs ignore case
            raise web.HTTPNotFound(text=f"no download {asked}")
        link = f"http://{request.host}/v1/occurrence/download/request/{record['key']}.zip"
        return web.json_response(record | {"downloadLink": link})

    async def archive(request: web.Request) -> web.StreamResponse:
        record = await asyncio.to_thread(read_record)
        if record is None or request.match_info["key"] != record["key"]:
            raise web.HTTPNotFound
        return web.FileResponse(folder / "archive.zip")

    async def photo(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / "photos" / f"{request.match_info['name']}.jpg")  # 404 where there is none

    async def occurrence(request: web.Request) -> web.StreamResponse:
        gbif_id = request.match_info["gbif_id"]
        return web.Response(
            content_type="text/html",
            text=f"<!doctype html><title>Occurrence {gbif_id}</title>"
            f"<p>Occurrence {gbif_id} of the demo world: an invented species, drawn by a program.",
        )

    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/occurrence/download/request/{key}.zip", archive),
            web.get("/v1/occurrence/download/{key}", download),
            web.get("/v1/occurrence/download/{prefix}/{suffix}", download),
            web.get(r"/photos/{name:[\w-]+}.jpg", photo),
            web.get(r"/occurrence/{gbif_id:\d+}", occurrence),
        ]
    )
    return app
