"""The deployment that counts what each key has asked, and how an ingress reaches it.

If the replica dies after it has counted and before it has answered, the call is sent again: one identification may then
count twice.
"""

from typing import Any, cast

from ray.serve.handle import DeploymentHandle

from aitax_ray.serving.accounts import Accounts, Verdict
from aitax_ray.serving.remote import Remote
from aitax_ray.serving.replica import equip
from aitax_ray.serving.settings import ApplicationArgs

LEDGER_TIMEOUT_S = 20.0  # a replica that was killed comes back in less


class Ledger(Accounts):
    """Counts for all replicas of the ingress, so there is one of it."""

    def __init__(self, args: ApplicationArgs) -> None:
        equip(args)
        assert args.keys is not None
        super().__init__(args.keys)


class RemoteLedger:
    """The `accounts.Ledger` of an ingress. Raises ClusterError when the deployment cannot be reached."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._remote = Remote(handle, "the ledger of keys")

    async def ask(self, holder: str, origin: str, cost: int | None) -> Verdict:
        """See `accounts.Ledger`."""
        return cast(Verdict, await self._remote.call("ask", holder, origin, cost, timeout_s=LEDGER_TIMEOUT_S))

    async def give_back(self, holder: str, day: str, cost: int) -> None:
        """See `accounts.Ledger`."""
        await self._remote.call("give_back", holder, day, cost, timeout_s=LEDGER_TIMEOUT_S)

    async def history(self, holder: str, year: int) -> dict[str, int]:
        """See `accounts.Ledger`."""
        return cast(dict[str, int], await self._remote.call("history", holder, year, timeout_s=LEDGER_TIMEOUT_S))
