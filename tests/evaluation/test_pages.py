from pathlib import Path
from typing import Any

from aitax_ray.evaluation.pages import write_pages
from tests.evaluation.worlds import make_metrics, make_world
from tests.small import write_model, write_root


def test_pages_are_written_with_thumbnails_credits_and_licences(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train", "val", "test"])
    write_model(ws)
    world = make_world(3, 40, 40, 1.0)
    metrics: dict[str, Any] = make_metrics(world, num_suspects=1)
    shown = ws.storage.read_table("manifest/media/part-00000.parquet").to_pylist()[:2]
    first, second = (row["image_id"] for row in shown)
    metrics["lookalikes"]["pairs"] = metrics["lookalikes"]["pairs"][:1]
    metrics["lookalikes"]["pairs"][0] |= {"image_a": first, "image_b": ""}
    suspect = {"image_id": second, "labelled": "a", "looks_like": "b", "confidence": 0.95, "occurrence": "", "url": ""}
    write_pages(ws, "evaluation", metrics, world[1].species, [suspect], 30)
    page = ws.storage.read_bytes("evaluation/report.html").decode()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count("no picture") == 1
    assert all(f"© {row['creator']}, licence unknown" in page for row in shown)
    assert "data:image/png;base64," in page.partition("Learning curves")[2]
    assert "10.15468/dl.sma11" in ws.storage.read_bytes("evaluation/model_card.md").decode()
