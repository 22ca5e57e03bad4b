"""Budgets of memory. Tasks or threads wait until enough of it is free, first come, first served."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

GIVEN_UP_S = 0.2  # time between two looks at whether a thread still wants memory


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


class ThreadBudget:
    """Lends `total` bytes to threads. Whoever wants more than `total` waits until all is free."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextlib.contextmanager
    def room(self, num_bytes: int, has_given_up: Callable[[], bool]) -> Iterator[None]:
        """Wait until `num_bytes` are free, and reserve them. Raises TimeoutError when `has_given_up` becomes true."""
        num_bytes, ticket = min(num_bytes, self.total), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or num_bytes > self.free:
                    if has_given_up():
                        raise TimeoutError
                    self._changed.wait(GIVEN_UP_S)
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()  # the next one may have room, too
            self.free -= num_bytes
        try:
            yield
        finally:
            with self._changed:
                self.free += num_bytes
                self._changed.notify_all()
