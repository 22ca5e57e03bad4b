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
from aitax_ray.errors import EngineError
from aitax_ray.evaluation.decisions import Decisions
from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.schemas import image_id
from aitax_ray.serving.gallery import Gallery
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identifier
from tests.engines import COLOURS, divide_index, photo, write_small_engine
from tests.serving.in_process import ingress

PHOTOS = [Image.new("RGB", (40, 30), colour) for colour in COLOURS.values()]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1")


async def test_an_index_in_parts_gives_the_answers_of_one_process(tmp_path: Path) -> None:
    decisions = Decisions(vote=Vote(share=0.4, power=0.5, num_neighbors=6))
    engine = write_small_engine(tmp_path / "engine" / "colours-1", decisions=decisions)
    divide_index(engine, 2, 5, 6)  # red lies in two shards, green in three
    alone = Identifier(open_engine(str(engine)))
    shown = [image_id(f"https://photos.example/{name}/{number}.jpg") for name in COLOURS for number in range(4)]
    for num_parts in (1, 2, 4, 6):
        service, _, _ = ingress(engine, num_illustrations=3, retrieval_parts=num_parts)
        for photos in (PHOTOS, PHOTOS[1:2]):
            answer, expected = await service.backend.identify(photos, None), alone.identify(photos, None, 3)
            assert answer == expected
        for each in [*shown, "0" * 40]:
            assert await service.backend.picture(each) == alone.picture(each)
        assert await service.backend.is_ready()


def test_a_part_opens_its_own_shards_alone(tmp_path: Path) -> None:
    folder = write_small_engine(tmp_path / "engine" / "colours-1")
    divide_index(folder, 2, 5, 6)
    engine = open_engine(str(folder))
    for num_parts, expected in ((1, ["0123"]), (2, ["01", "23"]), (3, ["0", "1", "23"]), (5, ["", "0", "1", "2", "3"])):
        shards = [[shard.folder.name[-1] for shard in engine.index(n, num_parts).shards] for n in range(num_parts)]
        assert ["".join(names) for names in shards] == expected
    damaged = folder / "shards" / "00003" / "vectors.npy"
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    engine = open_engine(str(folder))
    assert len(engine.index(0, 2)) == 5
    with pytest.raises(EngineError, match=r"00003/vectors\.npy has changed"):
        engine.index(1, 2)


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
