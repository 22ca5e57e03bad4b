"""serving.serve: what is told before Ray is started; the running service is asked in test_pipeline.py."""

import socket
from pathlib import Path

import pytest

from aitax_ray.errors import AitaxError, EngineError
from aitax_ray.serving import serve
from aitax_ray.serving.serve import ServeSettings, serving
from tests.engines import write_small_engine


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(serve, "connect", fail)


def test_missing_engine_is_told_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine in"), serving(ServeSettings(engine=str(tmp_path))):
        pass


def test_port_in_use_is_told_before_ray_starts(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "colours-1")
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = ServeSettings(engine=str(engine), port=other.getsockname()[1])
        with pytest.raises(AitaxError, match="choose another --port"), serving(settings):
            pass


def test_address_of_another_machine_is_told(tmp_path: Path) -> None:
    engine = write_small_engine(tmp_path / "colours-1")
    with (
        pytest.raises(AitaxError, match=r"cannot listen on 192\.0\.2\.1:"),
        serving(ServeSettings(engine=str(engine), host="192.0.2.1", port=0)),
    ):
        pass
