"""serving.ingress: the deployments as plain objects; on Ray Serve they run in test_pipeline.py."""

import asyncio
import shutil
from pathlib import Path

import pytest
from PIL import Image

from aitax_ray.engine.bundle import open_engine
from aitax_ray.engine.engines import Engines
from aitax_ray.engine.info import ENGINES, write_current
from aitax_ray.errors import RequestError
from aitax_ray.schemas import image_id
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.identifier import Identification, Identifier
from aitax_ray.serving.ingress import Ingress
from aitax_ray.serving.retrieval import Retrieval
from aitax_ray.storage import Storage
from tests.engines import COLOURS, thumbnail, write_root, write_small_engine
from tests.serving.in_process import ingress
from tests.web import Web

PHOTOS = [Image.new("RGB", (40, 30), colour) for colour in COLOURS.values()]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1")


async def test_ingress_answers_as_the_identifier_in_one_process_does(engine: Path) -> None:
    service, _, _ = ingress(engine, num_illustrations=3)
    expected = Identifier(open_engine(str(engine))).identify(PHOTOS, 2)
    assert await service.backend.identify(PHOTOS, 2) == expected
    assert service.backend.num_queries == 1


async def test_ingress_gives_the_thumbnails_that_the_retrieval_has(engine: Path) -> None:
    service, _, _ = ingress(engine)
    picture = await service.backend.picture(image_id("https://photos.example/11/0.jpg"))
    assert picture is not None
    assert picture.content == thumbnail(COLOURS["11"], 0)
    assert await service.backend.picture("0" * 40) is None


async def test_without_illustrations_the_retrieval_is_not_asked_for_them(engine: Path) -> None:
    service, classifier, retrieval = ingress(engine, illustrate=False)
    answer = await service.backend.identify(PHOTOS[:1], None)
    assert answer.candidates[0].illustrations == ()
    assert (classifier.calls, retrieval.calls) == (["predict"], ["search"])
    service, _, retrieval = ingress(engine)
    assert (await service.backend.identify(PHOTOS[:1], None, illustrate=False)).candidates[0].illustrations == ()
    assert retrieval.calls == ["search"]


async def test_ingress_gives_the_embedding_of_a_photograph_and_the_name_of_its_project(engine: Path) -> None:
    service, _, retrieval = ingress(engine)
    expected = Identifier(open_engine(str(engine))).embed(PHOTOS[0])
    assert await service.backend.embed(PHOTOS[0]) == expected
    assert (len(expected), retrieval.calls, service.backend.project) == (3, [], "dl.colour")
    assert ingress(engine, project="k-frogs")[0].backend.project == "k-frogs"


async def test_photograph_at_a_private_address_is_fetched_only_when_allowed(engine: Path, web: Web) -> None:
    refusing, _, _ = ingress(engine)
    with pytest.raises(RequestError, match="private address"):
        await refusing.backend.fetch(web.url("/ok/1.jpg"))
    assert sum(web.requests.values()) == 0


async def test_requests_change_to_the_current_engine_and_each_is_answered_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_root(tmp_path, monkeypatch)
    service, _, _ = ingress(root, num_illustrations=3)
    before = service.backend
    expected = [Identifier(open_engine(str(root / ENGINES / name))).identify(PHOTOS[:1], 2) for name in ("1", "2")]

    async def answer(backend: Backend) -> Identification:
        return await backend.identify(PHOTOS[:1], 2)

    assert await answer(before) == expected[0]
    write_current(Storage(str(root)), ENGINES, "2")
    await service.look()
    assert service.backend.info.version == "2"
    # A request that began before the change, and whose network has run or not, ends with the engine that it began with.
    assert [await answer(backend) for backend in (before, service.backend, before)] == [*expected, expected[0]]
    assert before.num_queries == service.backend.num_queries == 4
    Engines(str(root)).rollback("1")
    await service.look()
    assert await answer(service.backend) == expected[0]


async def test_the_decoders_of_the_engine_before_are_stopped_when_no_request_can_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitax_ray.serving.ingress.KEEP_S", 0.01)
    root, closed = write_root(tmp_path, monkeypatch), asyncio.Event()
    service, _, _ = ingress(root)
    before, loop = service.backend.decoder, asyncio.get_running_loop()
    close = before.close

    def close_and_tell() -> None:
        close()
        loop.call_soon_threadsafe(closed.set)

    monkeypatch.setattr(before, "close", close_and_tell)
    write_current(Storage(str(root)), ENGINES, "2")
    await service.look()
    await asyncio.wait_for(closed.wait(), 30)
    assert (before._pool._is_closed, before._slow_pool._is_closed) == (True, True)
    assert not service.backend.decoder._pool._is_closed


@pytest.mark.parametrize("damaged", ["classifier.onnx", "shards/00000/vectors.npy", "taxa.parquet"])
async def test_a_damaged_engine_is_refused_with_a_message_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    root = write_root(tmp_path, monkeypatch)
    service, _, _ = ingress(root)
    path = root / ENGINES / "2" / damaged
    content = path.read_bytes()
    path.write_bytes(b"\0" * len(content))
    write_current(Storage(str(root)), ENGINES, "2")
    for _ in range(3):
        await service.look()
        assert (await service.backend.identify(PHOTOS[:1], 2)).engine_version == "1"
    refusals = [each.message for each in caplog.records if each.name == Ingress.__module__]
    assert len(refusals) == 1
    assert "engines/2 cannot be used, engines/1 stays in use: " in refusals[0]
    assert f"{damaged} has changed" in refusals[0]
    refused = service.backend.refused
    assert refused is not None
    assert refused.engine == "2"
    assert refused.reason == f"{damaged} has changed since it was published (sha256 differs)"
    path.write_bytes(content)
    await service.look()
    assert service.backend.info.version == "1"  # it is not read every second
    monkeypatch.setattr(service, "_retry_at", 0.0)
    await service.look()
    assert service.backend.info.version == "2"
    assert service.backend.refused is None


async def test_what_is_wrong_is_said_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_root(tmp_path, monkeypatch)
    service, _, _ = ingress(root)

    async def refused(current: str) -> tuple[str, str]:
        write_current(Storage(str(root)), ENGINES, current)
        await service.look()
        assert service.backend.refused is not None
        return service.backend.refused.engine, service.backend.refused.reason

    assert await refused("3") == ("3", "engine.json is missing")
    (root / ENGINES / "2" / "engine.json").write_text('{"format_version": 3}', encoding="utf-8")
    assert await refused("2") == ("2", "it has another format")
    shutil.rmtree(root / ENGINES / "2" / "shards")
    (root / ENGINES / "current").unlink()
    (root / ENGINES / "current").mkdir()
    await service.look()
    assert service.backend.refused is not None
    assert str(tmp_path) not in service.backend.refused.reason


async def test_the_ingress_reads_the_pages_and_figures_of_its_engine(engine: Path, tmp_path: Path) -> None:
    service, _, _ = ingress(engine, keep_queries=str(tmp_path / "kept"))
    assert (await service.backend.document("model_card.md") or b"").startswith(b"# Model card")
    assert await service.backend.document("engine.json") is None
    assert service.backend.figures["11"].num_test == 4
    assert service.backend.queries is not None
    assert ingress(engine)[0].backend.queries is None


async def test_the_service_is_ready_when_both_other_deployments_have_its_engine(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, classifier, retrieval = ingress(engine)
    assert await service.backend.is_ready()
    assert (classifier.calls, retrieval.calls) == (["prepare"], ["prepare"])
    monkeypatch.setattr("aitax_ray.serving.ingress.READY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(Retrieval, "prepare", lambda *_: asyncio.sleep(60))
    assert not await service.backend.is_ready()


async def test_thumbnails_of_an_answer_are_shown_after_the_engine_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_root(tmp_path, monkeypatch)
    service, _, _ = ingress(root)
    shown = image_id("https://photos.example/11/0.jpg")
    write_current(Storage(str(root)), ENGINES, "2")
    await service.look()
    assert await service.backend.picture(shown) is not None
    assert await ingress(root)[0].backend.picture(shown) is None


async def test_settings_change_while_it_runs_and_stay_when_the_engine_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_root(tmp_path, monkeypatch)
    service, _, _ = ingress(root, num_illustrations=3)

    async def num_shown() -> int:
        return len((await service.backend.identify(PHOTOS[:1], 1)).candidates[0].illustrations)

    assert await num_shown() == 3
    service.reconfigure({"num_illustrations": 1, "max_batch_size": 5, "batch_budget_s": 1000})
    assert (await num_shown(), service.backend._network.limit) == (1, 5)
    service.reconfigure({"num_illustrations": 0})  # it is wrong, and not used
    assert await num_shown() == 1
    write_current(Storage(str(root)), ENGINES, "2")
    await service.look()
    assert (service.backend.info.version, service.backend._network.limit, await num_shown()) == ("2", 5, 1)
    service.reconfigure({"illustrate": False})
    assert await num_shown() == 0
