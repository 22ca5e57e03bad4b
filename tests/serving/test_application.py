"""serving.application: the deployments as plain objects; on Ray Serve they run in test_pipeline.py."""

import asyncio
import shutil
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient
from PIL import Image
from ray.exceptions import RayActorError
from ray.serve.schema import ServeDeploySchema

from aitax_ray.engine import takedown
from aitax_ray.engine.bundle import Engine, open_engine
from aitax_ray.engine.engines import Engines
from aitax_ray.engine.info import ENGINES, write_current
from aitax_ray.errors import ClusterError, RequestError
from aitax_ray.schemas import image_id
from aitax_ray.serving import application
from aitax_ray.serving.application import Classifier, Ingress, RemoteLedger, Retrieval, build, predict_batch
from aitax_ray.serving.backend import Backend
from aitax_ray.serving.gallery import Gallery
from aitax_ray.serving.http import make_app
from aitax_ray.serving.identifier import Identification, Identifier
from aitax_ray.serving.settings import ApplicationArgs
from aitax_ray.serving.versions import Versions
from aitax_ray.storage import Storage
from tests.engines import COLOURS, photo, thumbnail, write_root, write_small_engine
from tests.web import Web

PHOTOS = [Image.new("RGB", (40, 30), colour) for colour in COLOURS.values()]

NAMES = {Ingress.__name__, Classifier.__name__, Retrieval.__name__}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_engine(tmp_path_factory.mktemp("engine") / "colours-1")


class Handle:
    """Stands for a deployment's handle: calls the object in this process."""

    def __init__(self, deployment: Any) -> None:
        self._deployment = deployment
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._deployment, name)

        class Method:
            remote = staticmethod(lambda *given: self.calls.append(name) or method(*given))

        return Method


class Unbatched(Classifier):
    """The classifier without Ray Serve's gathering, which works in a replica only."""

    def __init__(self, args: ApplicationArgs) -> None:
        self._versions = Versions(args.engine, Engine.classifier)

    async def predict(self, place: str, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return predict_batch([(await self._versions.get(place), pixels)])[0]


def ingress(engine: Path, **args: Any) -> tuple[Ingress, Handle, Handle]:
    arguments = ApplicationArgs(engine=str(engine), **args)
    handles = Handle(Unbatched(arguments)), Handle(Retrieval(arguments))
    return Ingress(arguments, *handles), *handles  # type: ignore[arg-type]


def test_requests_that_share_a_batch_get_each_their_own_answer(engine: Path) -> None:
    colours = list(COLOURS.values())
    requests = [np.stack([np.full((8, 8, 3), c, np.uint8) for c in colours[: n + 1]]) for n in range(3)]
    one, other = (open_engine(str(engine)).classifier() for _ in range(2))
    answers = predict_batch(list(zip([one, other, one], requests, strict=True)))
    assert [logits.argmax(axis=1).tolist() for _, logits in answers] == [[0], [0, 1], [0, 1, 2]]
    assert [embeddings.shape for embeddings, _ in answers] == [(1, 3), (2, 3), (3, 3)]


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
    assert (classifier.calls, retrieval.calls) == (["predict"], ["compare"])
    service, _, retrieval = ingress(engine)
    assert (await service.backend.identify(PHOTOS[:1], None, illustrate=False)).candidates[0].illustrations == ()
    assert retrieval.calls == ["compare"]


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


def deployments(args: ApplicationArgs) -> dict[str, Any]:
    """The configuration of each deployment, by name. The engine need not be there."""
    ingress = build(args)._bound_deployment
    found = [ingress, *(each._bound_deployment for each in ingress.init_args[1:] if each is not None)]
    return {deployment.name: deployment._deployment_config for deployment in found}


def test_a_laptop_has_one_replica_of_each_deployment() -> None:
    found = deployments(ApplicationArgs(engine="/there/is/none", max_waiting=7))
    assert {name: config.num_replicas for name, config in found.items()} == dict.fromkeys(NAMES, 1)
    assert all(config.autoscaling_config is None for config in found.values())
    assert found["Ingress"].max_ongoing_requests > 10 * 7  # those that are refused reach it, too


def test_replicas_follow_the_load_between_the_given_numbers() -> None:
    numbers = {"min_ingress_replicas": 2, "max_ingress_replicas": 5, "max_classifier_replicas": 3}
    args = ApplicationArgs(engine="e", **numbers, min_retrieval_replicas=2, max_retrieval_replicas=2)
    found = deployments(args.model_copy(update={"target_ongoing_requests": 9.0}))
    for name, smallest, largest in (("Ingress", 2, 5), ("Classifier", 1, 3)):
        scaling = found[name].autoscaling_config
        assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (smallest, largest, 9)
    assert (found["Retrieval"].num_replicas, found["Retrieval"].autoscaling_config) == (2, None)


def test_configuration_for_serve_deploy_has_valid_settings_and_scales() -> None:
    content = yaml.safe_load((Path(__file__).parents[2] / "serve_config.yaml").read_text(encoding="utf-8"))
    (application,) = ServeDeploySchema.model_validate(content).applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    args = ApplicationArgs.model_validate(application.args)
    assert all(config.autoscaling_config for config in deployments(args).values())
    assert {deployment.name for deployment in application.deployments} <= NAMES


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
    path.write_bytes(content)
    await service.look()
    assert service.backend.info.version == "1"  # it is not read every second
    monkeypatch.setattr(service, "_retry_at", 0.0)
    await service.look()
    assert service.backend.info.version == "2"


async def test_the_service_is_ready_when_both_other_deployments_have_its_engine(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, classifier, retrieval = ingress(engine)
    assert await service.backend.is_ready()
    assert (classifier.calls, retrieval.calls) == (["prepare"], ["prepare"])
    monkeypatch.setattr("aitax_ray.serving.application.READY_TIMEOUT_S", 0.05)
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


async def test_a_ledger_that_does_not_answer_is_an_error_that_tells_clients_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Dead:
        async def ask(self, *_: object) -> None:
            raise RayActorError

        async def history(self, *_: object) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(application, "LEDGER_TIMEOUT_S", 0.01)
    ledger = RemoteLedger(Handle(Dead()))  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="RayActorError"):
        await ledger.ask("who", "", 1)
    with pytest.raises(ClusterError, match="TimeoutError"):
        await ledger.history("who", 2026)
