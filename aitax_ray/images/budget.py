"""A budget of memory: who needs some waits until there is room, in the order of coming."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Budget:
    """Gives out `total` bytes. More than that at once is given when all the rest is free. For one event loop."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def room(self, num_bytes: int) -> AsyncIterator[None]:
        """Hold `num_bytes`, as soon as they are free."""
        num_bytes = min(num_bytes, self.total)
        if self._waiting or num_bytes > self.free:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((num_bytes, waiter))
            try:
                await waiter
            except asyncio.CancelledError:
                # Those behind may have room now.
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
            wanted, waiter = self._waiting[0]
            if not waiter.done():
                if wanted > self.free:
                    return
                self.free -= wanted
                waiter.set_result(None)
            self._waiting.popleft()
