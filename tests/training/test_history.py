import math
from pathlib import Path

import pytest

from aitax_ray import workspace
from aitax_ray.storage import Storage
from aitax_ray.training.history import read_history, write_history


def test_what_is_written_is_read_a_line_per_epoch(tmp_path: Path) -> None:
    storage, rows = Storage(str(tmp_path)), [{"epoch": 1, "loss": None}, {"epoch": 2, "loss": 0.5}]
    assert read_history(storage) == []
    write_history(storage, rows)
    assert read_history(storage) == rows
    assert (tmp_path / workspace.HISTORY).read_text() == '{"epoch": 1, "loss": null}\n{"epoch": 2, "loss": 0.5}\n'


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_history(Storage(str(tmp_path)), [{"loss": math.nan}])
