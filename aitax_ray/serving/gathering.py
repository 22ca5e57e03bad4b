"""Joins the questions of several requests into one call of another deployment.

A call between replicas costs about as much processor time as the network needs for a photograph. A busy service
therefore makes few large calls, and an idle one sends each question at once: nothing waits for others to come.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from aitax_ray.errors import ClusterError
from aitax_ray.serving.record import add_part

Question = TypeVar("Question")
Answer = TypeVar("Answer")

RECENT = 0.2  # weight of the latest call in the mean time per photograph


@dataclass
class _Asked(Generic[Question, Answer]):
    question: Question
    size: int
    begin: float = field(default_factory=time.perf_counter)
    waited_s: float = 0.0
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Gatherer(Generic[Question, Answer]):
    """Joins questions: while `max_calls` calls run, questions wait, and the next call takes all that fit.

    When `ahead` photographs or more wait, up to `max_calls` further calls are sent: a busy replica has its next call
    when it has answered one. Fewer photographs would go in smaller calls, and calls cost more than that saves.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Question]], Awaitable[tuple[Sequence[Answer], float]]],
        max_calls: int,
        max_size: int,
        budget_s: float,
        ahead: int | None = None,
    ) -> None:
        """`call` answers several questions, in their order, and gives the seconds that this took.

        A call has as many photographs as take at most `budget_s`, judged by the calls before it, and `max_size` at
        most. A single question may have more.
        """
        self._call, self._max_calls, self._ahead = call, max_calls, ahead
        self.limit_calls(max_size, budget_s)
        self._waiting: deque[_Asked[Question, Answer]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._seconds_each = 0.0

    def limit_calls(self, max_size: int, budget_s: float) -> None:
        """Change the limits, which count from the next call on."""
        self._max_size, self._budget_s = max_size, budget_s

    async def ask(self, question: Question, size: int) -> Answer:
        """Ask a question about `size` photographs. Raises what the call raises.

        If the caller is cancelled, a question that waits is dropped, and a call that nobody waits for is cancelled.
        """
        asked: _Asked[Question, Answer] = _Asked(question, size)
        self._waiting.append(asked)
        self._send()
        answer = await asked.answer
        add_part("wait", asked.waited_s)
        return answer

    @property
    def limit(self) -> int:
        """Number of photographs that the next call may have."""
        if not self._seconds_each:
            return self._max_size
        return max(1, min(self._max_size, int(self._budget_s / self._seconds_each)))

    def _send(self) -> None:
        while self._waiting and self._may_call():
            together, size, limit = list[_Asked[Question, Answer]](), 0, self.limit
            while self._waiting and (not together or size + self._waiting[0].size <= limit):
                asked = self._waiting.popleft()
                if not asked.answer.done():
                    asked.waited_s = time.perf_counter() - asked.begin
                    together.append(asked)
                    size += asked.size
            if together:
                # A call is of several requests. In the context of one, Ray Serve would end it when that client leaves.
                call = asyncio.create_task(self._answer(together, size), context=Context())
                self._calls.add(call)
                call.add_done_callback(self._finish)
                for each in together:
                    each.answer.add_done_callback(partial(_cancel, call, together))

    def _may_call(self) -> bool:
        if self._ahead is None or len(self._calls) < self._max_calls:
            return len(self._calls) < self._max_calls
        return len(self._calls) < 2 * self._max_calls and sum(each.size for each in self._waiting) >= self._ahead

    def _finish(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _answer(self, together: Sequence[_Asked[Question, Answer]], size: int) -> None:
        try:
            answers, seconds = await self._call([asked.question for asked in together])
        except (Exception, asyncio.CancelledError) as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            for asked in together:
                if not asked.answer.done():
                    asked.answer.set_exception(ClusterError("the call was ended") if is_cancelled else error)
            if is_cancelled:
                raise
            return
        recent = seconds / size
        self._seconds_each += (RECENT if self._seconds_each else 1) * (recent - self._seconds_each)
        for asked, answer in zip(together, answers, strict=True):
            if not asked.answer.done():
                asked.answer.set_result(answer)


def _cancel(call: asyncio.Task[None], together: Sequence[_Asked[Question, Answer]], _: asyncio.Future[Answer]) -> None:
    if all(asked.answer.cancelled() for asked in together):
        call.cancel()
