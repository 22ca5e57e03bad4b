"""serving.together: when one coroutine fails or the caller is cancelled, none goes on."""

import asyncio

import pytest

from aitax_ray.errors import RequestError
from aitax_ray.serving.together import together


class Work:
    """Waits until it is cancelled, and then needs one more step to end."""

    def __init__(self) -> None:
        self.begun, self.is_over = asyncio.Event(), False

    async def run(self) -> int:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.is_over = True
        return 0


async def test_results_are_in_their_order() -> None:
    async def give(number: int) -> int:
        for _ in range(3 - number):
            await asyncio.sleep(0)
        return number

    assert await together(map(give, range(3))) == [0, 1, 2]
    assert await together(map(give, [])) == []


async def test_the_first_error_is_raised_as_it_is_once_the_others_have_ended() -> None:
    works, error = [Work(), Work()], RequestError("no photograph", 415)

    async def fail() -> int:
        for work in works:
            await work.begun.wait()
        raise error

    with pytest.raises(RequestError) as raised:
        await together([works[0].run(), fail(), works[1].run()])
    assert raised.value is error
    assert [work.is_over for work in works] == [True, True]


async def test_all_have_ended_when_the_caller_is_cancelled() -> None:
    works = [Work(), Work()]
    task = asyncio.create_task(together([work.run() for work in works]))
    for work in works:
        await work.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [work.is_over for work in works] == [True, True]
