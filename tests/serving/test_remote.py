"""serving.remote: with handles that fail as Ray's do. Real replicas die in test_serve.py."""

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError, RayTaskError
from ray.serve.exceptions import BackPressureError

from aitax_ray.errors import ClusterError, EngineError
from aitax_ray.serving.remote import MESSAGE_BYTES, Remote
from tests.serving.in_process import Handle


class Deployment:
    """Answers with what it is given, one after the other; raises what is an error."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.num_cancelled, self.is_waiting = 0, asyncio.Event()

    async def ask(self, question: str) -> str:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.is_waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
        return f"{question} {answer}"

    prepare = ask


def remote(*answers: Any) -> tuple[Remote, Deployment, Handle]:
    deployment = Deployment(*answers)
    handle = Handle(deployment)
    return Remote(handle, "the oracle"), deployment, handle  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "death", [ActorDiedError(), ActorUnavailableError("no route", None), ObjectLostError("00", None, "")]
)
async def test_a_call_whose_replica_dies_is_sent_once_more(death: Exception, caplog: pytest.LogCaptureFixture) -> None:
    oracle, _, handle = remote(death, 42, death, death)
    assert await oracle.call("ask", "why?") == "why? 42"
    assert (oracle.num_retries, handle.calls) == (1, ["ask", "ask"])
    assert "the oracle died, is out of reach or lacks the engine" in caplog.text
    with pytest.raises(ClusterError, match=f"the oracle does not answer: {type(death).__name__}"):
        await oracle.call("ask", "why?")
    assert (oracle.num_retries, len(handle.calls)) == (2, 4)


@pytest.mark.parametrize(
    "error", [EngineError("broken"), RayTaskError("f", "Traceback", EngineError("broken")).as_instanceof_cause()]
)
async def test_a_call_to_a_replica_that_cannot_open_the_engine_is_sent_once_more(error: Exception) -> None:
    oracle, _, handle = remote(error, 42, error, error)
    assert await oracle.call("ask", "why?") == "why? 42"
    with pytest.raises(ClusterError, match="the oracle does not answer: EngineError broken"):
        await oracle.call("ask", "why?")
    assert (oracle.num_retries, len(handle.calls)) == (2, 4)


async def test_an_error_that_would_come_again_is_not_asked_for_twice() -> None:
    oracle, _, handle = remote(EngineError("broken"), BackPressureError(num_queued_requests=1, max_queued_requests=1))
    with pytest.raises(EngineError, match="broken"):
        await oracle.call("prepare", "engines/2")
    with pytest.raises(ClusterError, match="BackPressureError"):
        await oracle.call("ask", "why?")
    assert (oracle.num_retries, len(handle.calls)) == (0, 2)


async def test_a_call_takes_its_time_and_no_longer_and_its_work_ends() -> None:
    oracle, deployment, _ = remote(None, ActorDiedError(), None)
    for number in (1, 2):  # both times of a call together
        with pytest.raises(ClusterError, match="the oracle does not answer: TimeoutError"):
            await oracle.call("ask", "why?", timeout_s=0.01)
        await asyncio.sleep(0)
        assert deployment.num_cancelled == number


async def test_the_work_for_a_client_that_leaves_ends() -> None:
    oracle, deployment, _ = remote(None)
    client = asyncio.create_task(oracle.call("ask", "why?"))
    await asyncio.wait_for(deployment.is_waiting.wait(), 5)
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    assert deployment.num_cancelled == 1


async def test_long_messages_go_by_the_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(Handle, "options", lambda self, **options: chosen.append(options) or self)
    oracle, _, _ = remote(1, 2)
    await oracle.call("ask", "short?", num_bytes=MESSAGE_BYTES)
    assert chosen == []
    await oracle.call("ask", "long?", num_bytes=MESSAGE_BYTES + 1)
    assert chosen == [{"_by_reference": True}]
