import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from aitax_ray.errors import ClusterError
from aitax_ray.serving.gathering import Gatherer


class Other:
    """A deployment that answers n with 10 n, when it may."""

    def __init__(self, seconds_each: float = 0.001) -> None:
        self.calls: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.num_cancelled = 0
        self.seconds_each = seconds_each

    async def call(self, questions: Sequence[int]) -> tuple[list[int], float]:
        self.calls.append(list(questions))
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if -1 in questions:
            raise ConnectionError
        return [10 * question for question in questions], self.seconds_each * len(questions)


def gatherer(
    other: Other, max_calls: int = 1, max_size: int = 4, budget_s: float = 1.0, ahead: int | None = None
) -> Gatherer[int, int]:
    return Gatherer(other.call, max_calls, max_size, budget_s, ahead)


async def started(*questions: asyncio.Task[int]) -> None:
    """Wait until they have been asked."""
    for _ in range(len(questions) + 3):
        await asyncio.sleep(0)


def ask(gathering: Gatherer[int, int], *questions: int, size: int = 1) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(gathering.ask(question, size)) for question in questions]


async def test_the_first_question_is_sent_at_once_and_those_that_come_meanwhile_go_together() -> None:
    other = Other()
    asked = ask(gatherer(other), 1, 2, 3, 4, 5, 6)
    await started(*asked)
    assert other.calls == [[1]]
    other.may_answer.set()
    assert await asyncio.gather(*asked) == [10, 20, 30, 40, 50, 60]
    assert other.calls == [[1], [2, 3, 4, 5], [6]]


async def test_as_many_calls_as_permitted_are_on_their_way() -> None:
    other = Other()
    asked = ask(gatherer(other, max_calls=2), 1, 2, 3)
    await started(*asked)
    assert other.calls == [[1], [2]]
    other.may_answer.set()
    assert await asyncio.gather(*asked) == [10, 20, 30]


async def test_a_call_more_is_on_its_way_when_enough_photographs_wait() -> None:
    other = Other()
    gathering = gatherer(other, ahead=3)
    few = ask(gathering, 1, 2, 3)
    await started(*few)
    assert other.calls == [[1]]
    more = ask(gathering, 4, 5, 6, 7)
    await started(*more)
    assert other.calls == [[1], [2, 3, 4]]
    other.may_answer.set()
    assert await asyncio.gather(*few, *more) == [10, 20, 30, 40, 50, 60, 70]
    assert other.calls == [[1], [2, 3, 4], [5, 6, 7]]


async def test_a_question_of_more_photographs_than_a_call_may_have_is_asked_alone() -> None:
    other = Other()
    gathering = gatherer(other, max_size=3)
    asked = [*ask(gathering, 1), *ask(gathering, 2, size=5), *ask(gathering, 3, 4, size=2)]
    other.may_answer.set()
    assert await asyncio.gather(*asked) == [10, 20, 30, 40]
    assert other.calls == [[1], [2], [3], [4]]


async def test_calls_become_smaller_when_photographs_take_long() -> None:
    other = Other(seconds_each=0.5)
    gathering = gatherer(other, max_size=8)
    other.may_answer.set()
    assert gathering.limit == 8
    assert await gathering.ask(1, 1) == 10
    assert gathering.limit == 2
    await asyncio.gather(*ask(gathering, 1, 2, 3, 4, 5))
    assert other.calls[1:] == [[1], [2, 3], [4, 5]]
    other.seconds_each = 3.0
    await gathering.ask(1, 1)
    assert gathering.limit == 1
    other.seconds_each = 0.0
    for _ in range(40):
        await gathering.ask(1, 1)
    assert gathering.limit == 8


async def test_an_error_reaches_all_that_asked_together_and_no_others() -> None:
    other = Other()
    asked = ask(gatherer(other, max_size=2), 1, -1, 2, 3)
    other.may_answer.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert found[0] == 10
    assert [type(each) for each in found[1:3]] == [ConnectionError] * 2
    assert found[3] == 30


async def test_a_question_whose_client_has_left_is_not_asked() -> None:
    other = Other()
    gathering = gatherer(other)
    asked = ask(gathering, 1, 2, 3)
    await started(*asked)
    asked[1].cancel()
    await started(*asked)
    other.may_answer.set()
    assert (await asked[0], await asked[2]) == (10, 30)
    assert other.calls == [[1], [3]]


async def test_a_call_is_cancelled_when_all_its_clients_have_left_and_the_next_ones_are_answered() -> None:
    other = Other()
    gathering = gatherer(other)
    first, *together = ask(gathering, 1, 2, 3)
    await started(first, *together)
    first.cancel()
    await started(first, *together)
    assert other.num_cancelled == 1
    assert other.calls == [[1], [2, 3]]
    together[0].cancel()
    await started(*together)
    assert other.num_cancelled == 1
    other.may_answer.set()
    assert await together[1] == 30
    with pytest.raises(asyncio.CancelledError):
        await together[0]


async def test_a_call_is_in_nobodys_context() -> None:
    request: ContextVar[str] = ContextVar("request", default="nobody")
    seen = []
    other = Other()

    async def call(questions: Sequence[int]) -> tuple[list[int], float]:
        seen.append(request.get())
        return await other.call(questions)

    gathering: Gatherer[int, int] = Gatherer(call, 1, 4, 1.0)

    async def client(name: str) -> int:
        request.set(name)
        return await gathering.ask(1, 1)

    asked = [asyncio.create_task(client(name)) for name in ("a", "b", "c")]
    await started(*asked)
    other.may_answer.set()
    await asyncio.gather(*asked)
    assert seen == ["nobody", "nobody"]


async def test_a_call_that_somebody_ends_is_an_error_for_all_that_wait_for_it() -> None:
    other = Other()
    gathering = gatherer(other)
    asked = ask(gathering, 1, 2)
    await started(*asked)
    (call,) = gathering._calls
    call.cancel()
    with pytest.raises(ClusterError, match="the call was ended"):
        await asked[0]
    other.may_answer.set()
    assert await asked[1] == 20
