import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path

import pytest
from ray import cloudpickle

from aitax_ray.doctor import node
from aitax_ray.doctor.node import describe_node


def test_a_machine_says_what_decides_whether_it_fits(tmp_path: Path) -> None:
    says = describe_node(str(tmp_path))
    assert json.loads(json.dumps(says)) == says
    assert says["versions"]["python"] == platform.python_version()
    assert says["versions"]["ray"] == metadata.version("ray")
    assert says["cpus"] == os.cpu_count()
    assert says["temp_folder"] == str(tmp_path)
    assert 0 < says["temp_free_bytes"] <= says["temp_bytes"]
    assert says["clock"] == pytest.approx(time.time(), abs=60)
    assert len(says["source"]) == 12


def test_ray_gets_the_module_by_value_so_that_nodes_without_the_package_answer() -> None:
    cloudpickle.register_pickle_by_value(node)
    try:
        sent = cloudpickle.dumps(describe_node)
    finally:
        cloudpickle.unregister_pickle_by_value(node)
    assert b"nvidia-smi" in sent, "the code itself"
    assert b"aitax_ray.errors" not in sent


def test_a_driver_that_does_not_work_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_node()["gpus"] is None
    command.write_text("#!/bin/sh\necho 'NVIDIA L4, 570.86'\n", encoding="utf-8")
    command.chmod(0o755)
    assert describe_node()["gpus"] == ["NVIDIA L4, 570.86"]
    command.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    assert describe_node()["gpus"] is None
