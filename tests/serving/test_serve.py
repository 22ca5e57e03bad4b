"""serving.serve: errors before Ray starts, and a service on a cluster that was joined.

The service of a process of its own is asked in test_pipeline.py.
"""

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from ray import serve as ray_serve
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview, ServeStatus

from aitax_ray.cluster import Resources
from aitax_ray.errors import AitaxError, ClusterError, EngineError, SettingsError
from aitax_ray.serving import serve
from aitax_ray.serving.keys import add_key, revoke_key
from aitax_ray.serving.metrics import METRICS
from aitax_ray.serving.serve import serving
from aitax_ray.serving.settings import ServeSettings
from tests.engines import COLOURS, NAMES, photo, write_small_engine
from tests.metrics import OPERATIONS, exported, named


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(serve, "connect", fail)


@pytest.mark.usefixtures("no_ray")
def test_a_missing_engine_is_an_error_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine in"), serving(ServeSettings(engine=str(tmp_path))):
        pass


def test_a_damaged_engine_is_an_error_before_the_service_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = write_small_engine(tmp_path / "colours-1")
    (engine / "taxa.parquet").write_bytes(b"\0" * (engine / "taxa.parquet").stat().st_size)
    monkeypatch.setattr(serve, "connect", lambda: None)
    monkeypatch.setattr(serve, "_start", lambda *_: pytest.fail("it was started"))
    with pytest.raises(EngineError, match=r"taxa\.parquet has changed"), serving(ServeSettings(engine=str(engine))):
        pass


def test_the_cause_is_named_when_a_deployment_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        "The deployment failed to start 3 times in a row:\n  Traceback\nEngineError: pip install onnxruntime-gpu\n"
    )
    states = {"Classifier": ("DEPLOY_FAILED", message), "Ingress": ("HEALTHY", "well")}
    deployments = {name: SimpleNamespace(status=status, message=text) for name, (status, text) in states.items()}
    found = SimpleNamespace(applications={serve.APPLICATION: SimpleNamespace(deployments=deployments)})
    monkeypatch.setattr(ray_serve, "status", lambda: found)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    error = RuntimeError("Deploying app failed:\n Failed to update the deployments ['Classifier'].")
    assert serve._explain(error) == "Classifier: EngineError: pip install onnxruntime-gpu"
    deployments.clear()
    assert serve._explain(error) == "Deploying app failed: Failed to update the deployments ['Classifier']."


@pytest.mark.usefixtures("no_ray")
def test_a_port_in_use_is_an_error_before_ray_starts(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "colours-1")
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = ServeSettings(engine=str(engine), port=other.getsockname()[1])
        with pytest.raises(AitaxError, match="choose another --port"), serving(settings):
            pass


@pytest.mark.usefixtures("no_ray")
def test_the_address_of_another_machine_is_an_error(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "colours-1")
    with (
        pytest.raises(AitaxError, match=r"cannot listen on 192\.0\.2\.1:"),
        serving(ServeSettings(engine=str(engine), host="192.0.2.1", port=0)),
    ):
        pass


def are_deleted_by_their_token(address: str, folder: Path, kept: dict[str, str]) -> None:
    """Wait until photographs are kept, and delete them as their sender would."""
    until = time.monotonic() + 10
    while not list(folder.glob(f"*/{kept['id']}.zip")):
        assert time.monotonic() < until
    for token, status, num_files in (("other", 403, 1), (kept["token"], 204, 0)):
        answer = httpx.delete(f"{address}/queries/{kept['id']}", headers={"X-Delete-Token": token}, timeout=30)
        assert (answer.status_code, len(list(folder.glob("*/*.zip")))) == (status, num_files)


def is_reported(address: str) -> None:
    """Look at the logs and metrics of a service that has answered."""
    for given in ({}, {"X-Request-ID": "mine"}):
        answer = httpx.post(f"{address}/identify", files={"image": b"none"}, headers=given, timeout=60)
        assert answer.status_code == 415
        (request_id,) = answer.headers.get_list("X-Request-ID")
    assert request_id == "mine"
    folder, until = Path(get_serve_logs_dir()), time.monotonic() + 10
    while True:  # a line is written after its answer
        texts = [path.read_text() for path in folder.glob("access_aitax_Ingress_*.log")]
        lines = [json.loads(line) for text in texts for line in text.splitlines() if line.endswith("}")]
        last = next((line for line in lines if line["request_id"] == "mine"), None)
        if last is not None:
            break
        assert time.monotonic() < until
    assert (last["route"], last["status"], last["outcome"]) == ("/identify", 415, "error")
    assert any(set(line["parts"]) >= {"decode", "prepare", "model", "search", "reason", "serialise"} for line in lines)
    assert any("engine colours-1" in path.read_text() for path in folder.glob("replica_aitax_Retrieval_*.log"))
    used = named("".join(path.read_text(encoding="utf-8") for path in OPERATIONS.iterdir() if path.is_file()))
    seldom = {"decoder_failures", "fetches", "retries", "engine_failures"}
    text = exported(used - {f"ray_aitax_{name}_total" for name in seldom})
    for metric in METRICS:  # with Ray Serve's labels, and ours
        found = re.search(rf"^ray_{metric.name}\w*{{(.*)}}", text, flags=re.MULTILINE)
        if found is not None:
            assert {"application", "deployment", "replica", *metric.labels} <= set(re.findall(r"(\w+)=", found[1]))


@pytest.mark.usefixtures("ray_session")
def test_on_a_joined_cluster_there_is_one_service_and_nothing_of_it_stays(tmp_path: Path) -> None:
    engine, kept = str(write_small_engine(tmp_path / "colours-1")), tmp_path / "kept"
    settings = ServeSettings(engine=engine, port=0, keep_queries=str(kept))

    def version(address: str) -> str:
        return str(httpx.get(f"{address}/status", timeout=30).json()["engine"])

    with serving(settings) as address:
        assert version(address) == "colours-1"
        answer = httpx.post(f"{address}/identify", files={"image": photo(COLOURS["22"])}, timeout=60)
        assert answer.json()["results"][0]["name"] == NAMES["22"]
        are_deleted_by_their_token(address, kept, answer.json()["kept"])
        is_reported(address)
        with (
            pytest.raises(ClusterError, match=r"`serve deploy` .* or stop it with `serve shutdown`"),
            serving(settings),
        ):
            pass
        assert version(address) == "colours-1"
    assert ray_serve.status().applications == {}
    assert ray_serve.status().proxies == {}


@pytest.mark.usefixtures("ray_session")
def test_replicas_on_ray_share_a_quota_and_a_revoked_key_ends(tmp_path: Path) -> None:
    path = tmp_path / "keys.jsonl"
    params = {"api-key": add_key(path, "ann", per_day=10)}
    engine = str(write_small_engine(tmp_path / "colours-1"))
    two = {"min_ingress_replicas": 2, "max_ingress_replicas": 2, "cors_origins": ("https://frogs.example",)}
    with serving(ServeSettings.model_validate({"engine": engine, "port": 0, "keys": str(path), **two})) as url:

        def ask(_: int = 0) -> httpx.Response:
            return httpx.post(f"{url}/identify", files={"image": photo(COLOURS["22"])}, params=params, timeout=60)

        with ThreadPoolExecutor(8) as pool:
            found = [answer.status_code for answer in pool.map(ask, range(24))]
        assert (found.count(200), found.count(429)) == (10, 14)
        deployments = ray_serve.status().applications["aitax"].deployments
        states = {name: sum(found.replica_states.values()) for name, found in deployments.items()}
        assert (states["Ingress"], states["Ledger"]) == (2, 1)
        assert httpx.get(f"{url}/v2/quota", params=params, timeout=60).json()["quota"]["identify"]["count"] == 10
        headers = {"Origin": "https://other.example"}
        assert "access-control-allow-origin" not in httpx.get(f"{url}/status", headers=headers, timeout=60).headers
        revoke_key(path, "ann")
        until = time.monotonic() + 10
        while ask().status_code != 401:
            assert time.monotonic() < until
    assert json.loads(next(Path(f"{path}.counts").iterdir()).read_text()) == {"ann": 10}


def test_a_ray_of_its_own_gets_the_fast_front_end_and_each_service_its_own_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = []
    for _ in range(2):
        environment = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
        monkeypatch.setattr(serve.os, "environ", environment)
        serve._prepare_ray()
        assert {name: environment[name] for name in serve.FAST} == serve.FAST | {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
        found.append({name: value for name, value in environment.items() if name not in serve.FAST})
    assert found[0].keys() == found[1].keys()
    shared = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"}
    assert all(found[0][name] != found[1][name] for name in found[0].keys() - shared)
    for path in (found[0]["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"], found[0]["RAY_SERVE_HAPROXY_SOCKET_PATH"]):
        assert Path(path).parent.is_dir()


def test_where_haproxy_may_not_open_its_files_the_service_takes_the_proxy_of_ray(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    monkeypatch.setattr(serve.os, "environ", {})
    serve._prepare_ray()
    assert serve.os.environ == {}
    assert "only 1024 files may be open" in caplog.text


@pytest.mark.parametrize("address", ["", "10.0.0.1:6379"])
def test_a_cluster_keeps_the_front_end_with_which_it_was_started(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: not address)
    environment = {"RAY_ADDRESS": address}
    monkeypatch.setattr(serve.os, "environ", dict(environment))
    serve._prepare_ray()
    assert serve.os.environ == environment


@pytest.mark.usefixtures("no_ray")
def test_keys_that_are_not_there_are_an_error_before_ray_starts(tmp_path: Path) -> None:
    engine = str(write_small_engine(tmp_path / "colours-1"))
    with (
        pytest.raises(SettingsError, match=r"^--keys .*none: No such file"),
        serving(ServeSettings(engine=engine, port=0, keys=str(tmp_path / "none"))),
    ):
        pass


def test_the_address_is_given_when_the_service_answers_there_and_not_when_its_proxy_does() -> None:
    statuses = [404, 500, 200, 404]

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/healthz"
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        serve._wait_for_answer("127.0.0.1", proxy.server_address[1])
        proxy.shutdown()
        thread.join()
    assert statuses == [404]


def test_an_address_that_cannot_be_reached_from_here_is_given_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve, "ANSWER_TIMEOUT_S", 0.01)
    proxies = {"a": "UNHEALTHY", "b": "HEALTHY"}
    applications = {serve.APPLICATION: ApplicationStatusOverview("RUNNING", "", 0.0, {})}
    monkeypatch.setattr(ray_serve, "status", lambda: ServeStatus(applications=applications, proxies=proxies))
    port = serve.free_port("127.0.0.1", 0)
    serve._wait_for_answer("127.0.0.1", port)
    assert "does not answer from here" in caplog.text
    del applications[serve.APPLICATION]
    with pytest.raises(ClusterError, match="not deployed"):
        serve._wait_for_answer("127.0.0.1", port)
    del proxies["b"]
    with pytest.raises(ClusterError, match="no proxy works"):
        serve._wait_for_answer("127.0.0.1", port)


def test_proxies_that_start_slowly_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def give_up(call: str) -> None:
        calls.append(call)
        raise TimeoutError("Proxies not available after 60s.")

    monkeypatch.setattr(ray_serve, "start", lambda **_: give_up("start"))
    monkeypatch.setattr(ray_serve, "run", lambda *_, **__: give_up("run"))
    monkeypatch.setattr("aitax_ray.serving.application.build", lambda _: None)
    serve._start(ServeSettings(engine="e"), "e", 8000)
    assert calls == ["start", "run"]


def test_a_start_that_is_interrupted_takes_the_service_from_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def interrupt(*_: object) -> None:
        calls.append("start")
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "connect", lambda: None)
    monkeypatch.setattr(serve, "check_room", lambda *_: None)
    monkeypatch.setattr(ray_serve, "status", lambda: ServeStatus(applications={}, proxies={}))
    monkeypatch.setattr(serve, "_start", interrupt)
    monkeypatch.setattr(serve, "_leave", lambda: calls.append("leave"))
    settings = ServeSettings(engine=str(write_small_engine(tmp_path / "colours-1")), port=0)
    with pytest.raises(KeyboardInterrupt), serving(settings):
        pass
    assert calls == ["start", "leave"]


@pytest.mark.parametrize(
    ("host", "address", "num_nodes", "is_warned"),
    [
        ("127.0.0.1", "a:6379", 2, True),
        ("127.0.0.1", "a:6379", 1, False),
        ("127.0.0.1", "", 2, False),
        ("0.0.0.0", "a:6379", 2, False),
    ],
)
def test_a_host_at_which_other_nodes_cannot_be_reached_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    host: str,
    address: str,
    num_nodes: int,
    is_warned: bool,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(serve, "_prepare_ray", lambda: None)
    monkeypatch.setattr(serve, "connect", lambda: None)
    monkeypatch.setattr(serve, "check_room", lambda *_: None)
    monkeypatch.setattr(serve, "count_resources", lambda: Resources(num_nodes, 8, 0))
    monkeypatch.setattr(ray_serve, "status", interrupt)
    settings = ServeSettings(engine=str(write_small_engine(tmp_path / "colours-1")), host=host, port=0)
    with pytest.raises(KeyboardInterrupt), serving(settings):
        pass
    assert ("the cluster has 2 nodes" in caplog.text and "give --host 0.0.0.0" in caplog.text) == is_warned


@pytest.mark.parametrize("error", [RuntimeError, RayServeException])
def test_a_service_that_does_not_start_is_an_error_that_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(**_: object) -> None:
        raise error("no\nproxy")

    monkeypatch.setattr(ray_serve, "start", fail)
    with pytest.raises(ClusterError, match=r"does not start \(no proxy\): look into Ray's logs"):
        serve._start(ServeSettings(engine="e"), "e", 8000)


@pytest.mark.parametrize(("others", "expected"), [({"theirs": None}, "aitax"), ({}, "everything")])
def test_the_service_leaves_and_what_others_serve_stays(
    monkeypatch: pytest.MonkeyPatch, others: dict[str, Any], expected: str
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(ray_serve, "status", lambda: ServeStatus(applications={"aitax": None, **others}))
    monkeypatch.setattr(ray_serve, "delete", gone.append)
    monkeypatch.setattr(ray_serve, "shutdown", lambda: gone.append("everything"))
    serve._leave()
    assert gone == [expected]
