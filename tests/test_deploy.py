"""`serve deploy` of the files that the guide names, to a Ray head that asks for a token."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from aitax_ray.serving.serve import free_port
from tests.engines import COLOURS, NAMES, photo, write_root, write_small_engine
from tests.head import ROOT, Head

pytestmark = pytest.mark.ray
BUSY_S = 300  # a busy machine


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return content


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + BUSY_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def authorization(cluster: Head) -> dict[str, str]:
    return {"Authorization": f"Bearer {cluster.token}"}


def replicas(cluster: Head) -> dict[str, set[str]]:
    """The replicas of each deployment that runs, and is well."""
    address = f"{cluster.dashboard}/api/serve/applications/"
    found = httpx.get(address, headers=authorization(cluster), timeout=BUSY_S).json()
    return {
        f"{name} {deployment}": {replica["replica_id"] for replica in state["replicas"]}
        for name, application in found["applications"].items()
        if application["status"] == "RUNNING"
        for deployment, state in application["deployments"].items()
        if state["status"] == "HEALTHY"
    }


@pytest.fixture(autouse=True)
def _shut_down(cluster: Head) -> Iterator[None]:
    """Leave the CPUs of the head to other tests."""
    yield
    httpx.delete(
        f"{cluster.dashboard}/api/serve/applications/", headers=authorization(cluster), timeout=BUSY_S
    ).raise_for_status()


def test_two_engines_answer_below_their_addresses_and_settings_change_in_place(
    cluster: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, port = read("serve_two_engines.yaml"), free_port("127.0.0.1", 0)
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    engines = [write_root(tmp_path / "frogs", monkeypatch), write_small_engine(tmp_path / "moths" / "colours-1")]
    for application, engine in zip(config["applications"], engines, strict=True):
        application["args"]["engine"] = str(engine)
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    deployed = cluster.serve("deploy", file)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    wait_until(lambda: len(replicas(cluster)) == 6)

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=BUSY_S, follow_redirects=True) as client:
        for prefix, version in (("/frogs", "1"), ("/moths", "colours-1")):
            assert client.get(f"{prefix}/readyz").status_code == 200
            assert client.get(f"{prefix}/status").json()["engine"] == version
            page = client.get(prefix)
            assert (page.status_code, page.url.path) == (200, f"{prefix}/")
            answer = client.post(f"{prefix}/identify", files={"image": photo(COLOURS["22"])}).json()
            assert answer["results"][0]["name"] == NAMES["22"]
            thumbnail = answer["results"][0]["images"][0]["thumbnail"]
            assert thumbnail.startswith(f"http://127.0.0.1:{port}{prefix}/images/")
            assert client.get(thumbnail).headers["content-type"] == "image/webp"

        def num_shown() -> int:
            answer = client.post("/frogs/identify", files={"image": photo(COLOURS["22"])}).json()
            return len(answer["results"][0]["images"])

        before = replicas(cluster)
        assert num_shown() > 1
        (deployment,) = read("serve_config.yaml")["applications"][0]["deployments"]
        deployment["user_config"]["num_illustrations"] = 1
        config["applications"][0]["deployments"] = [deployment]
        # What `serve deploy` sends.
        address = f"{cluster.dashboard}/api/serve/applications/"
        httpx.put(address, json=config, headers=authorization(cluster), timeout=BUSY_S).raise_for_status()
        wait_until(lambda: num_shown() == 1)
        wait_until(lambda: replicas(cluster) == before)
