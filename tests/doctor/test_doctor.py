import json
from pathlib import Path

import pytest

from aitax_ray.cli import main
from aitax_ray.doctor import place


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "TRIAL_BYTES", 1 << 12)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_machine_without_cluster_is_examined_and_no_ray_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--root", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    areas = {one["area"]: one for one in found}
    assert "RAY_ADDRESS is not set" in areas["cluster"]["text"]
    assert {"versions", "storage", "disk", "artifacts"} <= areas.keys()
    assert ended.value.code == (1 if any(one["level"] == "broken" for one in found) else 0)


def test_what_is_broken_makes_the_command_fail_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--root", "/proc/frogs"])
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert "BROKEN  storage" in shown.out
    assert shown.err.splitlines()[-1].startswith("aitax: 1 things are broken, the first: storage: ")
