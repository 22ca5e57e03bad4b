"""Let a request of one worker wait until its host may be asked and the worker has room.

`limits.HostLimits` knows all workers and lends each a part of a host's limits. This module keeps to that part, request
by request. A request that waits for its host takes no room that another could use.
"""

import asyncio
import contextlib
import math
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from aitax_ray.images.limits import CUT, HostLimits, Lease, Limits, Usage

# The arguments of HostLimits.sync without the time: the worker, its reports, its counts, and whether these are all.
Reports = dict[str, Usage | None]
Sync = Callable[[str, Reports, "Counter[str]", bool], Awaitable[dict[str, Lease] | None]]

NOTHING = Usage()
SYNC_S = 0.5  # time between two reports to the lender, normally
HURRY_S = 0.02  # time before an urgent report, so that several needs go in one call
IDLE_S = 5.0  # after this time without a request a host is given back
LEASE_S = 10.0  # a lease is valid for this time; it must be below limits.WORKER_EXPIRES_S
SLACK_S = 0.05  # timers are this late; rates above 1 / SLACK_S catch up, lower rates keep their distance exactly


def sync_alone(limits: Limits) -> Sync:
    """Return the `sync` of a program that has one worker only."""
    lender = HostLimits(limits)

    async def sync(worker: str, usage: Reports, counts: "Counter[str]", full: bool) -> dict[str, Lease] | None:
        return lender.sync(worker, usage, counts, time.monotonic(), full=full)

    return sync


class HostClosed(Exception):  # noqa: N818 - a state of the host, not an error of the program
    """A host is not to be asked now; `reason` is one of answers.REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class _Host:
    lease: Lease | None = None
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    running: int = 0
    next_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    used_at: float = 0.0
    unreported: Usage = field(default_factory=Usage)  # answers since the last report
    reported: tuple[int, int, int] | None = None  # places, running and waiting as the lender knows them


class Turn:
    """A request's place at its host and among the worker's requests."""

    def __init__(self, turns: "Turns", host: _Host) -> None:
        self._turns, self._host, self._asking, self._open = turns, host, True, True

    def answered(self, status: int, num_bytes: int, seconds: float, retry_after_s: float | None = None) -> None:
        """Give back the place at the host, and say how it answered; status 0 is for no answer at all."""
        unreported = self._host.unreported
        retry_after_s = min(retry_after_s or 0.0, self._turns.memory_s)
        if status:
            unreported.answered, unreported.unreachable = unreported.answered + 1, 0
            unreported.num_bytes += num_bytes
            unreported.seconds += seconds
        else:
            unreported.unreachable += 1
        if status in CUT:
            unreported.statuses[status] += 1
        if status in CUT or retry_after_s:
            unreported.retry_after_s = max(unreported.retry_after_s, retry_after_s)
            self._turns.pause(self._host, retry_after_s)
        self._leave_host()

    def close(self) -> None:
        """Give back both places."""
        self._leave_host()
        if self._open:
            self._open = False
            self._turns.leave()

    def _leave_host(self) -> None:
        if self._asking:
            self._asking = False
            self._turns.leave_host(self._host)


class Turns:
    """Gives out turns within the leases of `sync` and at most `concurrency` at a time. For one event loop."""

    def __init__(self, sync: Sync, concurrency: int, memory_s: float = math.inf) -> None:
        """`memory_s` is the longest pause that a host may ask for; see limits.Limits."""
        self.memory_s = memory_s
        self.counts: Counter[str] = Counter()  # for the progress, sent with the next report
        self._sync, self._free = sync, concurrency
        self._member = uuid.uuid4().hex
        self._hosts: dict[str, _Host] = {}
        self._starved: dict[int, _Host] = {}  # hosts that wait only for room in the worker, the longest waiting first
        self._hurry = asyncio.Event()
        self._synced_at = 0.0
        self._full = True  # whether the next report names all hosts
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def turn(self, name: str, *, first: bool = False) -> AsyncIterator[Turn]:
        """Wait for a turn at a host; `first` goes before those that wait. Raises HostClosed."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_reporting())
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host()
        if host.lease is None or not host.lease.places:
            self._hurry.set()
        if host.lease is not None and host.lease.closed:
            raise HostClosed(host.lease.closed)
        waiter = asyncio.get_running_loop().create_future()
        host.waiting.appendleft(waiter) if first else host.waiting.append(waiter)
        self._pump(host)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                Turn(self, host).close()
            raise
        turn = Turn(self, host)
        try:
            yield turn
        finally:
            turn.close()

    def leave_host(self, host: _Host) -> None:
        host.running -= 1
        host.used_at = self._now()
        self._pump(host)

    def leave(self) -> None:
        self._free += 1
        while self._free and self._starved:
            self._pump(self._starved.pop(next(iter(self._starved))))

    def pause(self, host: _Host, seconds: float) -> None:
        """Ask a busy host nothing for so long, and report it soon, for the other workers."""
        host.next_at = max(host.next_at, self._now() + seconds)
        self._hurry.set()

    async def close(self) -> None:
        """Give back all leases."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._report()
            with contextlib.suppress(Exception):  # the lender may have ended, or takes back expired leases by itself
                await self._sync(self._member, {}, Counter(), True)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _pump(self, host: _Host) -> None:
        """Give turns to waiting requests within the host's lease and the worker's room."""
        lease, now = host.lease, self._now()
        if lease is None or now > self._synced_at + LEASE_S:  # the lease has expired
            return
        while host.waiting and host.running < lease.places:
            if host.waiting[0].done():  # given up
                host.waiting.popleft()
            elif now < host.next_at:
                if host.timer is None:
                    host.timer = asyncio.get_running_loop().call_at(host.next_at, self._ring, host)
                return
            elif not self._free:
                self._starved[id(host)] = host
                return
            else:
                host.waiting.popleft().set_result(None)
                host.running, self._free = host.running + 1, self._free - 1
                distance = 1 / lease.per_second
                host.next_at = (max(host.next_at, now - SLACK_S) if distance < SLACK_S else now) + distance

    def _ring(self, host: _Host) -> None:
        host.timer = None
        self._pump(host)

    async def _keep_reporting(self) -> None:
        while True:
            if self._hosts or self.counts:
                # Not wait_for: in Python 3.11 it may swallow a cancellation that comes as the event is set.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SYNC_S):
                        await self._hurry.wait()
            else:
                await self._hurry.wait()
            await asyncio.sleep(HURRY_S)
            self._hurry.clear()
            await self._report()

    async def _report(self) -> None:
        """Report what changed, and take the leases that changed."""
        now, full = self._now(), self._full
        usage: Reports = {}
        for name in [n for n, h in self._hosts.items() if self._idle(h, now)]:
            del self._hosts[name]
            usage[name] = None
        for name, host in self._hosts.items():
            places = host.lease.places if host.lease is not None else 0
            waiting = sum(not waiter.done() for waiter in host.waiting)
            present = (places, host.running, waiting)
            if full or host.reported != present or host.unreported != NOTHING:
                host.reported = present
                usage[name] = replace(host.unreported, places=places, running=host.running, waiting=waiting)
                host.unreported = Usage()
        counts, self.counts = self.counts, Counter()
        try:
            leases = await self._sync(self._member, usage, counts, full)
        except Exception:
            leases = None  # the lender is away: leases are used until they expire
        self._full = leases is None
        if leases is None:
            # The lender asks for all reports, or did not answer. They are sent again, twice if only the answer was lost
            self.counts.update(counts)
            for name, report in usage.items():
                if report is not None:
                    self._hosts[name].unreported = report.followed_by(self._hosts[name].unreported)
            return
        was_late = now > self._synced_at + LEASE_S
        self._synced_at = now
        for name, lease in leases.items():
            if name in self._hosts:  # else the lender has not heard yet that it was given back
                self._take(self._hosts[name], lease)
        if was_late:  # hosts whose lease stayed the same may be asked again
            for host in self._hosts.values():
                self._pump(host)

    def _idle(self, host: _Host, now: float) -> bool:
        has_answers = host.unreported.answered or host.unreported.unreachable
        return not (host.running or host.waiting or has_answers or now < max(host.used_at + IDLE_S, host.next_at))

    def _take(self, host: _Host, lease: Lease) -> None:
        host.lease = lease
        if lease.pause_s:
            host.next_at = max(host.next_at, self._now() + lease.pause_s)
        if lease.closed:
            while host.waiting:
                waiter = host.waiting.popleft()
                if not waiter.done():
                    waiter.set_exception(HostClosed(lease.closed))
        self._pump(host)
