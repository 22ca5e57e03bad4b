"""`aitax serve`: starts the service on this machine, or on the cluster that this process is connected to."""

import contextlib
import http.client
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from aitax_ray.cluster import check_room, connect, count_resources, stop
from aitax_ray.engine.bundle import open_engine
from aitax_ray.errors import AitaxError, ClusterError
from aitax_ray.images.memory import give_back_memory
from aitax_ray.serving.haproxy import clear_leftovers, make_folder
from aitax_ray.serving.keys import locate_keys, read_keys
from aitax_ray.serving.queries import check_queries, locate_queries
from aitax_ray.serving.settings import ApplicationArgs, ServeSettings

log = logging.getLogger(__name__)

APPLICATION = "aitax"
ANSWER_TIMEOUT_S = 60.0
LOGS = "/tmp/ray/session_latest/logs"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Ray Serve reads these when Ray starts. The first two halve its own processor time per request: HAProxy stands before
# the replicas, and their messages go by gRPC, see benchmarks.md. clusters/ and kubernetes/ set the same on every node.
FAST = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # gRPC refuses longer messages: a batch of photographs may have more than its own limit, which is 4 MiB.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(1 << 28),
    # HAProxy would keep a client that sends nothing for an hour, and it has 4,096 places.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "70",
    # A busy machine takes longer than 5 s to start the proxy: Ray would kill it, and the service would not start.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # An address and headers must fit into HAProxy's buffer, or it answers 400 in HTML: our own limits are 16 and 32 kB.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    # A request without a body that an ingress took with it when it died is sent to another one.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
}

HAPROXY_FILES = 10_000  # that HAProxy may have open: two for each of its 4,096 places. With fewer it does not start


@contextlib.contextmanager
def serving(settings: ServeSettings) -> Iterator[str]:
    """Run the service while the context lasts. Yields its address when it answers.

    Raises EngineError when there is no such engine, SettingsError when there are no such keys, StorageError when no
    queries can be kept, AitaxError when the port is taken, ClusterError when Ray Serve runs on the cluster already: it
    keeps the address with which it was started.
    """
    engine = os.path.abspath(settings.engine) if "://" not in settings.engine else settings.engine  # noqa: PTH100
    opened = open_engine(engine)
    keys = locate_keys(settings.keys)
    if keys is not None:
        read_keys(keys)
    queries = locate_queries(settings.keep_queries)
    if queries is not None:
        check_queries(queries)  # replicas would only log it
    settings = settings.model_copy(update={"keys": keys, "keep_queries": queries})
    if sys.platform.startswith("linux"):
        clear_leftovers()
    port = free_port(settings.host, settings.port)
    _prepare_ray()
    give_back_memory()  # of the engine, once it is verified
    with ThreadPoolExecutor(1) as pool:  # a large engine takes seconds, and so does Ray
        # A bad engine is reported here: a replica would fail again and again.
        verified = pool.submit(opened.verify, thumbnails=False) if opened.is_local else None
        connect()
    if verified:
        verified.result()
    number = settings.min_classifier_replicas
    reserved = number * settings.classifier_cpus, number * settings.classifier_gpus
    check_room("the service", *reserved, "lower --classifier-cpus or --classifier-gpus")
    if settings.host in LOOPBACK and os.environ.get("RAY_ADDRESS") and (num_nodes := count_resources().nodes) > 1:
        log.warning(
            "the cluster has %d nodes, and HAProxy cannot reach replicas on others at %s: give --host 0.0.0.0",
            num_nodes,
            settings.host,
        )
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
        _wait_for_answer(shown, port)
        yield f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    finally:
        if not stop():  # the cluster was joined and goes on, and others may use Ray Serve on it
            _leave()


def _prepare_ray() -> None:
    """Choose the fast ways of Ray Serve, for a Ray that this process starts."""
    import ray

    if ray.is_initialized() or os.environ.get("RAY_ADDRESS") or not sys.platform.startswith("linux"):
        return
    import resource  # there is none on Windows

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < HAPROXY_FILES:
        log.warning(
            "only %d files may be open here: the service takes Ray's own proxy, which is slower than HAProxy. "
            "For HAProxy allow %d (`ulimit -Hn`; of a container, `--ulimit nofile=%d`)",
            most,
            HAPROXY_FILES,
            HAPROXY_FILES,
        )
        return
    # Two services on a machine would otherwise share the files and ports of HAProxy.
    folder = make_folder()
    own = {
        # This service ends at Ctrl-C: HAProxy would wait half a minute for requests that may still come.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port("127.0.0.1", 0)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port("127.0.0.1", 0)),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port("0.0.0.0", 0)),
    }
    for name, value in (FAST | own).items():
        os.environ.setdefault(name, value)


def _start(settings: ServeSettings, engine: str, port: int) -> None:
    from ray import serve

    from aitax_ray.serving.application import build

    args = ApplicationArgs(**settings.model_dump(include=set(ApplicationArgs.model_fields)) | {"engine": engine})
    http = {"host": settings.host, "port": port, "request_timeout_s": settings.request_timeout_s}
    # Both wait for the proxies, but never longer than 60 s. A busy machine starts these later.
    slow = contextlib.suppress(TimeoutError)
    try:
        with slow:
            serve.start(http_options=http, logging_config={"log_level": "WARNING", "enable_access_log": False})
        application = build(args)
        with slow:
            serve.run(application, name=APPLICATION, route_prefix="/")
    except Exception as error:  # the exceptions of Ray Serve have no other common base
        raise ClusterError(f"the service does not start ({_explain(error)}): look into Ray's logs, {LOGS}") from error


def _explain(error: Exception) -> str:
    """Say in one line why the service does not start. Ray Serve's own error names only the deployment."""
    import ray
    from ray import serve

    # Ray Serve may raise anything here: then its first error has to do. Without Ray it would start one.
    with contextlib.suppress(Exception):
        deployments = serve.status().applications[APPLICATION].deployments if ray.is_initialized() else {}
        for name, deployment in sorted(deployments.items()):
            if deployment.status != "HEALTHY" and deployment.message.strip():
                return f"{name}: {deployment.message.strip().splitlines()[-1].strip()[:400]}"
    return " ".join(str(error).split())[:300]


def _wait_for_answer(host: str, port: int) -> None:
    """Wait until HAProxy, which listens earlier, knows the replicas of the ingress: it answers 404 or 500 before.

    Raises ClusterError when no node has a proxy that works, or when the service does not run.
    """
    until = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < until:
        asked = http.client.HTTPConnection(host, port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(asked):
            asked.request("GET", "/healthz")
            if asked.getresponse().status not in (HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR):
                return
        time.sleep(0.05)
    from ray import serve

    status = serve.status()
    if "HEALTHY" not in status.proxies.values():
        raise ClusterError("the service does not start (no proxy works): look into Ray's logs, " + LOGS)
    if APPLICATION not in status.applications or status.applications[APPLICATION].status != "RUNNING":
        raise ClusterError(f"the service does not start (it was not deployed): look into Ray's logs, {LOGS}")
    log.warning("the service has started, but http://%s:%d does not answer from here", host, port)


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
