import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from aitax_ray import cluster
from aitax_ray.cluster import connect, read_tables
from aitax_ray.errors import ClusterError
from aitax_ray.storage import Storage


@pytest.fixture(autouse=True)
def _same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `connect` sets in the environment goes with the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ERRORS = [ConnectionError, RuntimeError, ray.exceptions.RaySystemError, Exception]


@pytest.fixture(params=ERRORS[:1])
def inits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The calls of ray.init, each of which fails."""
    calls: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        calls.append(options)
        raise request.param("nobody\nthere")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    return calls


def test_what_nodes_report_is_logged_in_one_line_and_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "_reported", set())
    caplog.set_level(logging.DEBUG, cluster.log.name)
    full = "Traceback (most recent call last):\n  File ...\nwhile spilling objects: No space left on device\n"
    for text in (full, full, "The node a has been marked dead because\n(1) its raylet crashed, or ...", ""):
        cluster._report({"lines": [text], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == [
        "Ray reports: while spilling objects: No space left on device",
        "Ray reports: The node a has been marked dead because",
    ]
    in_full = [record.message for record in caplog.records if record.levelno == logging.DEBUG]
    assert [message.partition("\n")[2] for message in in_full] == [
        full.strip(),
        "The node a has been marked dead because\n(1) its raylet crashed, or ...",
    ]


def test_what_nodes_report_comes_to_us_and_ray_has_not_renamed_its_function(
    monkeypatch: pytest.MonkeyPatch, inits: list[dict[str, Any]]
) -> None:
    internals: Any = ray._private.worker
    monkeypatch.setattr(internals, "print_to_stdstream", print)  # as it was before, after the test
    with pytest.raises(ClusterError):
        connect()
    assert inits
    assert internals.print_to_stdstream is cluster._report
    # What `connect` has set is there in any case: only the code that calls it shows whether Ray still has this name.
    assert "print_to_stdstream" in internals.listen_error_messages.__code__.co_names


def test_a_cluster_that_does_not_answer_is_an_error_at_once_with_the_remedy(
    closed_port: int, inits: list[dict[str, Any]]
) -> None:
    os.environ["RAY_ADDRESS"] = f"127.0.0.1:{closed_port}"
    with pytest.raises(ClusterError, match=rf"RAY_ADDRESS=127\.0\.0\.1:{closed_port} runs, or unset RAY_ADDRESS"):
        connect()
    assert inits == []


@pytest.mark.parametrize("address", ["127.0.0.1:none", "nobody.invalid:6379", "auto"])
def test_an_address_that_cannot_be_used_is_named(address: str, inits: list[dict[str, Any]]) -> None:
    os.environ["RAY_ADDRESS"] = address
    with pytest.raises(ClusterError, match=f"check that the cluster at RAY_ADDRESS={address} runs"):
        connect()


def test_a_cluster_that_listens_is_joined_and_not_started(inits: list[dict[str, Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.environ["RAY_ADDRESS"] = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ClusterError):
            connect()
    assert [options.keys() & {"address", "num_cpus"} for options in inits] == [set()]


@pytest.mark.parametrize("inits", [ray.exceptions.AuthenticationError], indirect=True)
def test_a_cluster_that_asks_for_a_token_is_named_with_the_way_to_it(inits: list[dict[str, Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.environ["RAY_ADDRESS"] = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ClusterError, match="export RAY_AUTH_MODE=token"):
            connect()


@pytest.mark.parametrize("inits", ERRORS, indirect=True)
def test_ray_that_cannot_start_here_is_one_line_with_the_remedy(inits: list[dict[str, Any]]) -> None:
    with pytest.raises(
        ClusterError, match=r"Ray cannot start \(.*nobody there.*\): stop other Ray processes \(`ray stop`\)"
    ):
        connect()
    assert inits[0]["address"] == "local"


def test_a_local_ray_has_cpus_for_actors_and_for_tasks(
    monkeypatch: pytest.MonkeyPatch, inits: list[dict[str, Any]]
) -> None:
    for num_cpus in (1, None, 32):
        monkeypatch.setattr(os, "cpu_count", lambda found=num_cpus: found)
        with pytest.raises(ClusterError):
            connect()
    assert [options["num_cpus"] for options in inits] == [cluster.MIN_LOGICAL_CPUS, cluster.MIN_LOGICAL_CPUS, 32]


@pytest.mark.usefixtures("ray_session")
def test_a_process_that_is_connected_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ray.get_runtime_context().get_job_id()
    os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
    connect()
    connect()
    assert ray.get_runtime_context().get_job_id() == before
    assert not cluster.stop(), "what others started is theirs to stop"
    assert ray.is_initialized()


@pytest.mark.usefixtures("ray_session")
def test_tables_are_read_completely_in_blocks_of_a_size(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for number, names in enumerate(["abcdefg", "hi"]):
        table = pa.table({"name": list(names), "other": [number] * len(names)})
        storage.write_table(f"t/{number}.parquet", table)
    dataset = read_tables(storage, ["t/0.parquet", "t/1.parquet"], ["name"], 4).materialize()
    blocks = [batch["name"].to_pylist() for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow")]
    assert sorted(name for block in blocks for name in block) == list("abcdefghi")
    assert max(len(block) for block in blocks) <= 4
    assert read_tables(storage, [], ["name"], 4).count() == 0


@pytest.mark.usefixtures("ray_session")
def test_each_pass_may_read_the_files_in_another_order(tmp_path: Path) -> None:
    storage, names = Storage(str(tmp_path)), [f"f{number:02}" for number in range(24)]
    for name in names:
        storage.write_table(f"t/{name}.parquet", pa.table({"name": [name]}))
    dataset = read_tables(storage, [f"t/{name}.parquet" for name in names], ["name"], 4, shuffle_files=True)
    passes = [[row["name"] for row in dataset.iter_rows()] for _ in range(3)]
    assert [sorted(found) for found in passes] == [names] * 3
    assert len({tuple(found) for found in passes}) == 3


def test_of_what_ray_writes_as_it_starts_one_notice_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def init(**_: Any) -> None:
        os.write(2, b"[I 1] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL to 3\n")
        os.write(2, b"the object store is small\n")
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterError):
        connect()
    assert capfd.readouterr().err == "the object store is small\n"


def test_sigterm_stays_what_it_was_before_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # as Ray does

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "cluster_resources", dict)
    monkeypatch.setattr(cluster, "_started_here", False)
    monkeypatch.setattr(cluster.atexit, "register", lambda _: None)
    monkeypatch.setattr(cluster, "_watch_head", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        connect()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_head_is_lost_when_it_does_not_answer_for_some_time() -> None:
    looks = iter([False] * 4 + [True])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert not cluster.is_lost(address, 0.0, lambda: next(looks), look_s=0.001)
        assert next(looks, None) is None, "it answered each time"
    assert cluster.is_lost(address, 0.01, lambda: False, look_s=0.001)
