"""`aitax serve`: starts the service on this machine, or on the cluster that this process is connected to."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator

from aitax_ray.cluster import check_room, connect, stop
from aitax_ray.engine.bundle import open_engine
from aitax_ray.errors import AitaxError, ClusterError
from aitax_ray.serving.keys import locate_keys, read_keys
from aitax_ray.serving.settings import ApplicationArgs, ServeSettings

log = logging.getLogger(__name__)

APPLICATION = "aitax"


@contextlib.contextmanager
def serving(settings: ServeSettings) -> Iterator[str]:
    """Run the service while the context lasts. Yields its address when it answers.

    Raises EngineError when there is no such engine, SettingsError when there are no such keys, AitaxError when the port
    is taken, ClusterError when Ray Serve runs on the cluster already: it keeps the address with which it was started.
    """
    engine = os.path.abspath(settings.engine) if "://" not in settings.engine else settings.engine  # noqa: PTH100
    opened = open_engine(engine)
    if opened.is_local:  # report a bad engine here: a replica would fail again and again
        opened.verify(thumbnails=False)
    keys = locate_keys(settings.keys)
    if keys is not None:
        read_keys(keys)
    settings = settings.model_copy(update={"keys": keys})
    port = free_port(settings.host, settings.port)
    connect()
    check_room("the service", settings.classifier_cpus * settings.min_classifier_replicas, 0, "lower --classifier-cpus")
    from ray import serve

    if serve.status().proxies:
        raise ClusterError(
            "Ray Serve runs on this cluster already, at another address: add the engine to its applications with "
            "`serve deploy` (see serve_config.yaml), or stop it with `serve shutdown`"
        )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        _start(settings, engine, port)
        # When it listens on all addresses, this one leads to it.
        shown = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        yield f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    finally:
        if not stop():  # the cluster was joined and goes on, and others may use Ray Serve on it
            _leave()


def _start(settings: ServeSettings, engine: str, port: int) -> None:
    from ray import serve

    from aitax_ray.serving.application import build

    args = ApplicationArgs(**settings.model_dump(include=set(ApplicationArgs.model_fields)) | {"engine": engine})
    try:
        serve.start(
            http_options={"host": settings.host, "port": port, "request_timeout_s": settings.request_timeout_s},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        serve.run(build(args), name=APPLICATION, route_prefix="/")
    except Exception as error:  # the exceptions of Ray Serve have no other common base
        raise ClusterError(
            f"the service does not start ({' '.join(str(error).split())[:300]}): "
            "look into Ray's logs, /tmp/ray/session_latest/logs"
        ) from error


def _leave() -> None:
    """Remove the service from the cluster, and stop Ray Serve when it has no other application."""
    from ray import serve

    others = serve.status().applications.keys() - {APPLICATION}
    if others:
        serve.delete(APPLICATION)
    else:
        serve.shutdown()


def serve_until_interrupted(settings: ServeSettings) -> None:
    """Serve until Ctrl-C, or SIGTERM, which the command line treats in the same way."""
    with serving(settings) as address:
        wait_for_ctrl_c(address)


def wait_for_ctrl_c(address: str) -> None:
    """Log the address of the service, and wait."""
    log.info("serving %s (API: %s/docs); stop with Ctrl-C", address, address)
    with contextlib.suppress(KeyboardInterrupt):
        # In steps: this thread notices a signal only when it wakes.
        while not threading.Event().wait(0.5):
            pass
    log.info("stopping")


def free_port(host: str, port: int) -> int:
    """Check that a server can listen on the port; port 0 becomes a free one. Raises AitaxError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AitaxError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --port, or stop what uses it"
            ) from error
        return int(probe.getsockname()[1])
