"""The deployment that counts what each key has asked, and how an ingress reaches it."""

import asyncio
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle

from aitax_ray.errors import ClusterError
from aitax_ray.serving.accounts import Accounts, Verdict
from aitax_ray.serving.settings import ApplicationArgs

LEDGER_TIMEOUT_S = 20.0  # a replica that was killed needs 10 s to come back


class Ledger(Accounts):
    """Counts for all replicas of the ingress, so there is one of it."""

    def __init__(self, args: ApplicationArgs) -> None:
        assert args.keys is not None
        super().__init__(args.keys)


class RemoteLedger:
    """The `accounts.Ledger` of an ingress. Raises ClusterError when the deployment cannot be reached."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def ask(self, who: str, origin: str, cost: int | None) -> Verdict:
        """See `accounts.Ledger`."""
        return cast(Verdict, await self._call("ask", who, origin, cost))

    async def history(self, who: str, year: int) -> dict[str, int]:
        """See `accounts.Ledger`."""
        return cast(dict[str, int], await self._call("history", who, year))

    async def _call(self, method: str, *given: Any) -> Any:
        try:
            async with asyncio.timeout(LEDGER_TIMEOUT_S):
                return await getattr(self._handle, method).remote(*given)
        except (RayError, TimeoutError) as error:
            raise ClusterError(f"the ledger of keys does not answer: {type(error).__name__}") from error
