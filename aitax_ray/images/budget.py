"""A budget of memory. Tasks wait until enough of it is free, first come, first served."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Budget:
    """Lends `total` bytes to the tasks of one event loop. Whoever wants more than `total` waits until all is free."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def room(self, num_bytes: int) -> AsyncIterator[None]:
        """Wait until `num_bytes` are free, and reserve them."""
        num_bytes = min(num_bytes, self.total)
        if self._waiting or num_bytes > self.free:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((num_bytes, waiter))
            try:
                await waiter
            except asyncio.CancelledError:
                # The tasks behind it may have room now.
                self._give_back(num_bytes if waiter.done() and not waiter.cancelled() else 0)
                raise
        else:
            self.free -= num_bytes
        try:
            yield
        finally:
            self._give_back(num_bytes)

    def _give_back(self, num_bytes: int) -> None:
        self.free += num_bytes
        while self._waiting:
            size, waiter = self._waiting[0]
            if not waiter.done():
                if size > self.free:
                    return
                self.free -= size
                waiter.set_result(None)
            self._waiting.popleft()
