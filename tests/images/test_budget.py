import asyncio
import random

import pytest

from aitax_ray.images.budget import Budget


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


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_when_there_is_no_room_waits_in_the_order_of_coming() -> None:
    budget = Budget(10)
    holders = [Holder(budget, size) for size in (6, 6, 3)]
    await settle()
    # The third would fit, but goes behind the second: else many small ones would keep a large one waiting for ever.
    assert [holder.holds for holder in holders] == [True, False, False]
    await holders[0].leave()
    await settle()
    assert [holder.holds for holder in holders] == [False, True, True]
    for holder in holders[1:]:
        await holder.leave()
    assert budget.free == 10


async def test_what_is_larger_than_all_gets_all() -> None:
    budget = Budget(10)
    small, large = Holder(budget, 1), Holder(budget, 99)
    await settle()
    assert not large.holds
    await small.leave()
    await settle()
    assert large.holds
    assert budget.free == 0
    await large.leave()
    assert budget.free == 10


@pytest.mark.parametrize("granted", [False, True])
async def test_who_gives_up_waiting_loses_no_room(granted: bool) -> None:
    budget = Budget(10)
    first, second, third = (Holder(budget, 10) for _ in range(3))
    await settle()
    if granted:  # the room comes, and in the same moment it is given up
        first.go.set()
        await asyncio.sleep(0)
    second.task.cancel()
    await settle()
    first.go.set()
    await settle()
    assert third.holds
    await third.leave()
    assert budget.free == 10


async def test_an_error_gives_the_room_back() -> None:
    budget = Budget(10)
    with pytest.raises(RuntimeError):
        async with budget.room(4):
            raise RuntimeError
    assert budget.free == 10


async def test_never_more_is_held_than_there_is_whoever_gives_up_at_whatever_moment() -> None:
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


async def test_who_waits_behind_one_that_gives_up_goes_on_at_once() -> None:
    budget = Budget(10)
    first, second, third = (Holder(budget, size) for size in (6, 7, 3))
    await settle()
    assert not third.holds
    second.task.cancel()
    await settle()
    assert third.holds
    await first.leave()
    await third.leave()
    assert budget.free == 10
