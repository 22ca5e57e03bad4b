"""serving.ledger: the ledger beyond its deployment stands in test_accounts.py."""

import asyncio

import pytest
from ray.exceptions import RayActorError

from aitax_ray.errors import ClusterError
from aitax_ray.serving import ledger
from aitax_ray.serving.ledger import RemoteLedger
from tests.serving.in_process import Handle


async def test_a_ledger_that_does_not_answer_is_an_error_that_tells_clients_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Dead:
        async def ask(self, *_: object) -> None:
            raise RayActorError

        async def history(self, *_: object) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(ledger, "LEDGER_TIMEOUT_S", 0.1)
    remote = RemoteLedger(Handle(Dead()))  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="RayActorError"):
        await remote.ask("who", "", 1)
    with pytest.raises(ClusterError, match="TimeoutError"):
        await remote.history("who", 2026)
