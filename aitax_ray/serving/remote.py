"""Calls to other deployments: each has a time limit, is sent once more if its replica fails, and ends with its caller.

Ray Serve sends nothing more to a replica of which it knows that it died, and lets a call wait while there is no other.
A replica that died may have done the work already, which is then done twice.
"""

import asyncio
import logging
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from aitax_ray.errors import ClusterError, EngineError
from aitax_ray.serving import metrics

log = logging.getLogger(__name__)

TIMEOUT_S = 45.0  # for both times together; a request may take 55 s
# gRPC, which Ray Serve may use between replicas, refuses more than 4 MiB. Longer messages go by Ray's object store.
MESSAGE_BYTES = 3_000_000
# The replica, or its machine, died with the call, or cannot be reached. Errors of our own code are others.
DIED = (RayActorError, ObjectLostError)


class Remote:
    """A deployment, as others reach it."""

    def __init__(self, handle: DeploymentHandle[Any], name: str) -> None:
        self._handle, self._name = handle, name
        self.num_retries = 0

    async def call(self, method: str, *given: Any, timeout_s: float = TIMEOUT_S, num_bytes: int = 0) -> Any:
        """Call a method. Raises what it raises, or ClusterError when no replica answers.

        `num_bytes` is about what the longer one of question and answer has.
        """
        # One replica may fail to open an engine that another has open. Only `prepare` wants to know the cause.
        again = DIED if method == "prepare" else (*DIED, EngineError)
        handle = self._handle if num_bytes <= MESSAGE_BYTES else self._handle.options(_by_reference=True)
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._call(handle, method, given)
                except again as error:
                    self.num_retries += 1
                    metrics.RETRIES.record(target=self._name)
                    log.warning(
                        "%s died, is out of reach or lacks the engine (%s): the call is sent again",
                        self._name,
                        _reason(error),
                    )
                    return await self._call(handle, method, given)
        except (*again, RayServeException, TimeoutError) as error:
            raise ClusterError(f"{self._name} does not answer: {_reason(error)}") from error

    async def _call(self, handle: DeploymentHandle[Any], method: str, given: tuple[Any, ...]) -> Any:
        response = getattr(handle, method).remote(*given)
        try:
            return await response
        except asyncio.CancelledError:  # the client has left, or the time is over
            response.cancel()
            raise


def _reason(error: BaseException) -> str:
    error = getattr(error, "cause", error)  # what Ray makes of an error of a replica begins with a traceback
    return f"{type(error).__name__} {str(error)[:200]}".strip()
