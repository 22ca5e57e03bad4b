"""The history of a training run: model/metrics.jsonl, a row of figures per epoch, one JSON object per line."""

import json
from typing import Any

from aitax_ray import workspace
from aitax_ray.storage import Storage

Row = dict[str, Any]


def read_history(storage: Storage) -> list[Row]:
    """Read the rows; [] before the first epoch."""
    content = storage.read_if_there(workspace.HISTORY) or b""
    return [json.loads(line) for line in content.decode().splitlines()]


def write_history(storage: Storage, rows: list[Row]) -> None:
    """Write all rows. A figure that is not known is null, because JSON has no NaN."""
    lines = "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows)
    storage.write_bytes(workspace.HISTORY, lines.encode())
