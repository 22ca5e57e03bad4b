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
    metrics["worst"], metrics["lookalikes"]["pairs"] = [], metrics["lookalikes"]["pairs"][:1]
    metrics["lookalikes"]["pairs"][0] |= {"a_as_b": 2, "image_a": first, "image_b": ""}
    suspect = {"image_id": second, "labelled": "a", "looks_like": "b", "confidence": 0.95, "occurrence": "", "url": ""}
    ws.storage.write_json("split/data_card.json", {"caveats": ["Half of all photographs show one species."]})
    write_pages(ws, "evaluation", metrics, world[1].species, [suspect], 30)
    page = ws.storage.read_bytes("evaluation/report.html").decode()
    card = ws.storage.read_bytes("evaluation/model_card.md").decode()
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.count("no photograph<") == 1
    assert all(f"{row['creator']}, licence not stated" in page for row in shown)
    assert "data:image/png;base64," in page.partition("Learning curves")[2]
    assert "10.15468/dl.sma11" in card
    for text in (page, card):
        assert "Half of all photographs show one species." in text
        assert "that it was not trained with" in text or "that the engine was not trained with" in text


def test_an_outside_folder_is_named_in_both_pages(tmp_path: Path) -> None:
    ws = write_root(tmp_path, ["train", "val", "test"])
    write_model(ws)
    world = make_world(3, 40, 40, 1.0)
    write_pages(ws, "evaluation/photos", make_metrics(world), world[1].species, [], 30, "the folder garden")
    for name in ("report.html", "model_card.md"):
        text = ws.storage.read_bytes(f"evaluation/photos/{name}").decode()
        assert "from the folder garden" in text
        assert "not trained with" not in text
