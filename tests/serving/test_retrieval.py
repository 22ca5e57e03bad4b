"""serving.retrieval, called by an ingress."""

import shutil
import threading
from collections.abc import Collection
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from aitax_ray.engine import takedown
from aitax_ray.engine.bundle import open_engine
from aitax_ray.schemas import image_id
from aitax_ray.serving.gallery import Gallery
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identifier
from tests.engines import COLOURS, photo, write_small_engine
from tests.serving.in_process import ingress

PHOTOS = [Image.new("RGB", (40, 30), colour) for colour in COLOURS.values()]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1")


def test_a_photograph_that_its_author_withdraws_is_gone_from_the_running_service(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.engine.withdrawn.INTERVAL_S", 0.01)
    has_changed = threading.Event()
    withdraw = Gallery.withdraw

    def watched(gallery: Gallery, image_ids: Collection[str]) -> None:
        withdraw(gallery, image_ids)
        if image_ids:
            has_changed.set()

    monkeypatch.setattr(Gallery, "withdraw", watched)
    own = Path(shutil.copytree(engine, tmp_path / "own"))
    service, _, _ = ingress(own, num_illustrations=9)
    gone = image_id("https://photos.example/11/0.jpg")
    with TestClient(make_app(lambda: service.backend)) as client:
        ask = lambda: client.post("/identify", files={"image": photo(COLOURS["11"])}).text  # noqa: E731
        assert "photos.example/11/0.jpg" in ask()
        assert client.get(f"/images/{gone}").status_code == 200
        takedown.run(None, str(own), {"url": ["http://photos.example/11/0.jpg"]})
        assert has_changed.wait(10)
        after = ask()
        assert "photos.example/11/0.jpg" not in after
        assert "photos.example/11/1.jpg" in after
        assert client.get(f"/images/{gone}").status_code == 404
    # So it does not come back with a restart, nor in a process of its own.
    [best, *_] = Identifier(open_engine(str(own))).identify([PHOTOS[0]], num_illustrations=9).candidates
    assert gone not in {image.image_id for image in best.illustrations}
