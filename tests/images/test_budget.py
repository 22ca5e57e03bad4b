import asyncio
import random
import threading

import pytest

from aitax_ray.images.budget import Budget, ThreadBudget


class Holder:
    """Holds room until it is let go."""

    def __init__(self, budget: Budget, num_bytes: int) -> None:
        self.go = asyncio.Event()
        self.holds = False
        self.task = asyncio.create_task(self._hold(budget, num_bytes))

    async def _hold(self, budget: Budget, num_bytes: int) -> None:
        async with budget.room(num_bytes):
            self.holds = True
            await self.go.wait()
        self.holds = False

    async def leave(self) -> None:
        self.go.set()
        await self.task


async def let_tasks_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tasks_wait_for_room_in_the_order_of_coming() -> None:
    budget = Budget(10)
    holders = [Holder(budget, size) for size in (6, 6, 3)]
    await let_tasks_run()
    # The third would fit, but goes behind the second: else many small ones would keep a large one waiting for ever.
    assert [holder.holds for holder in holders] == [True, False, False]
    await holders[0].leave()
    await let_tasks_run()
    assert [holder.holds for holder in holders] == [False, True, True]
    for holder in holders[1:]:
        await holder.leave()
    assert budget.free == 10


async def test_a_request_for_more_than_the_total_gets_the_total() -> None:
    budget = Budget(10)
    small, large = Holder(budget, 1), Holder(budget, 99)
    await let_tasks_run()
    assert not large.holds
    await small.leave()
    await let_tasks_run()
    assert large.holds
    assert budget.free == 0
    await large.leave()
    assert budget.free == 10


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_wait_loses_no_room(granted: bool) -> None:
    budget = Budget(10)
    first, second, third = (Holder(budget, 10) for _ in range(3))
    await let_tasks_run()
    if granted:  # the room comes, and in the same moment it is given up
        first.go.set()
        await asyncio.sleep(0)
    second.task.cancel()
    await let_tasks_run()
    first.go.set()
    await let_tasks_run()
    assert third.holds
    await third.leave()
    assert budget.free == 10


async def test_an_error_gives_the_room_back() -> None:
    budget = Budget(10)
    with pytest.raises(RuntimeError):
        async with budget.room(4):
            raise RuntimeError
    assert budget.free == 10


async def test_never_more_than_the_total_is_reserved_whatever_is_cancelled() -> None:
    chance, budget = random.Random(0), Budget(100)
    held, peak = 0, 0

    async def hold(num_bytes: int) -> None:
        nonlocal held, peak
        async with budget.room(num_bytes):
            held += min(num_bytes, 100)
            peak = max(peak, held)
            for _ in range(chance.randrange(4)):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    held -= min(num_bytes, 100)
                    raise
            held -= min(num_bytes, 100)

    tasks = []
    for _ in range(500):
        tasks.append(asyncio.create_task(hold(chance.choice([1, 10, 40, 90, 200]))))
        if chance.random() < 0.5:
            chance.choice(tasks[-8:]).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert any(task.cancelled() for task in tasks)
    assert 90 < peak <= 100
    assert (budget.free, held) == (100, 0)


async def test_a_task_behind_a_cancelled_one_goes_on_at_once() -> None:
    budget = Budget(10)
    first, second, third = (Holder(budget, size) for size in (6, 7, 3))
    await let_tasks_run()
    assert not third.holds
    second.task.cancel()
    await let_tasks_run()
    assert third.holds
    await first.leave()
    await third.leave()
    assert budget.free == 10


class ThreadHolder:
    """Holds room in a thread until it is let go."""

    def __init__(self, budget: ThreadBudget, num_bytes: int) -> None:
        self.holds, self.go, self.has_given_up, self.error = threading.Event(), threading.Event(), False, ""
        self._thread = threading.Thread(target=self._hold, args=(budget, num_bytes))
        self._thread.start()

    def _hold(self, budget: ThreadBudget, num_bytes: int) -> None:
        try:
            with budget.room(num_bytes, lambda: self.has_given_up):
                self.holds.set()
                self.go.wait(60)
        except TimeoutError:
            self.error = "given up"

    def leave(self) -> None:
        self.go.set()
        self._thread.join()


def test_threads_wait_for_room_in_the_order_of_coming_and_may_give_up() -> None:
    budget = ThreadBudget(10)
    first = ThreadHolder(budget, 6)
    assert first.holds.wait(60)
    second = ThreadHolder(budget, 99)  # more than there is: waits until all is free
    while len(budget._waiting) < 1:
        pass
    third, fourth = ThreadHolder(budget, 3), ThreadHolder(budget, 3)
    assert not third.holds.wait(0.05)  # it would fit, but goes behind the second
    second.has_given_up = True
    assert third.holds.wait(60)
    second.leave()
    assert second.error == "given up"
    first.leave()
    assert fourth.holds.wait(60)
    third.leave()
    fourth.leave()
    assert budget.free == 10
