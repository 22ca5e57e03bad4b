import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from aitax_ray.images import turns as module
from aitax_ray.images.limits import HostLimit, HostLimits, Lease, Limits, Usage
from aitax_ray.images.turns import HostClosed, Turns, sync_alone

FAST = 1e6  # requests a second


@contextlib.asynccontextmanager
async def turns_of(limits: Limits | Turns, concurrency: int = 64) -> AsyncIterator[Turns]:
    turns = limits if isinstance(limits, Turns) else Turns(sync_alone(limits), concurrency)
    try:
        yield turns
    finally:
        await turns.close()


class Host:
    """What a host sees of requests."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.begun: list[float] = []

    async def ask(self, turns: Turns, name: str, seconds: float = 0.0, status: int = 200) -> None:
        async with turns.turn(name) as turn:
            self.begun.append(asyncio.get_running_loop().time())
            self.now += 1
            self.peak = max(self.peak, self.now)
            await asyncio.sleep(seconds)
            self.now -= 1
            turn.answered(status, 1, seconds)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def test_no_more_at_a_time_than_the_host_takes_nor_than_the_worker_has_room_for() -> None:
    hosts = [Host() for _ in range(3)]
    async with turns_of(Limits(HostLimit(3, FAST)), concurrency=5) as turns:
        together = Host()

        async def ask(host: Host, name: str) -> None:
            async with turns.turn(name) as turn:
                for one in (host, together):
                    one.now += 1
                    one.peak = max(one.peak, one.now)
                await asyncio.sleep(0.001)
                for one in (host, together):
                    one.now -= 1
                turn.answered(200, 1, 0.001)

        await asyncio.gather(*(ask(host, str(n)) for n, host in enumerate(hosts) for _ in range(20)))
    assert max(host.peak for host in hosts) == 3
    assert together.peak == 5


async def test_requests_to_a_host_keep_their_distance() -> None:
    host = Host()
    async with turns_of(Limits(HostLimit(8, 18.0))) as turns:
        await asyncio.gather(*(host.ask(turns, "a") for _ in range(8)))
    assert min(b - a for a, b in itertools.pairwise(host.begun)) >= 0.99 / 18


async def test_workers_together_keep_to_what_one_lender_lends() -> None:
    lender = HostLimits(Limits(HostLimit(4, FAST)))

    async def sync(member: str, usage: module.Reports, tally: Counter[str], full: bool) -> dict[str, Lease] | None:
        return lender.sync(member, usage, tally, asyncio.get_running_loop().time(), full=full)

    host, both = Host(), [Turns(sync, 64) for _ in range(2)]
    await asyncio.gather(*(host.ask(turns, "a", 0.02) for turns in both for _ in range(30)))
    for turns in both:
        await turns.close()
    assert host.peak == 4
    assert len(host.begun) == 60
    assert lender.states()[0].answered == 60
    again = await sync("third", {"a": Usage(waiting=9)}, Counter(), True)
    assert again is not None
    assert again["a"].places == 4  # all was given back


async def test_a_host_that_does_not_answer_holds_up_no_other() -> None:
    host, slow = Host(), Host()
    async with turns_of(Limits(HostLimit(2, FAST)), concurrency=4) as turns:
        stuck = [asyncio.create_task(slow.ask(turns, "slow", 3600)) for _ in range(20)]
        await until(lambda: slow.now == 2)
        await asyncio.gather(*(host.ask(turns, "fast") for _ in range(20)))
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
    assert (slow.peak, len(host.begun)) == (2, 20)


async def test_first_goes_before_those_that_wait() -> None:
    order: list[str] = []

    async def ask(name: str, *, first: bool = False) -> None:
        async with turns.turn("a", first=first):
            order.append(name)

    async with turns_of(Limits(HostLimit(1, FAST))) as turns:
        async with turns.turn("a"):
            tasks = [asyncio.create_task(ask(name)) for name in ("one", "two")]
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(ask("again", first=True)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
    assert order == ["again", "one", "two"]


@pytest.mark.parametrize("granted", [False, True])
async def test_who_gives_up_waiting_loses_no_place(granted: bool) -> None:
    host = Host()
    async with turns_of(Limits(HostLimit(1, FAST)), concurrency=1) as turns:
        gone = None
        async with turns.turn("a") as turn:
            gone = asyncio.create_task(host.ask(turns, "a"))
            await asyncio.sleep(0)
            if granted:
                turn.close()
            gone.cancel()
        await asyncio.wait([gone])
        await host.ask(turns, "a")
    assert gone.cancelled()
    assert len(host.begun) == 1


def scripted(*answers: Lease | Exception) -> tuple[list[tuple[dict[str, Usage], Counter[str]]], module.Sync]:
    """A lender that answers as told, the last for ever; and what it was told."""
    told: list[tuple[dict[str, Usage], Counter[str]]] = []
    hosts: set[str] = set()  # that the worker has

    async def sync(member: str, usage: module.Reports, tally: Counter[str], full: bool) -> dict[str, Lease]:
        hosts.difference_update([name for name, report in usage.items() if report is None])
        hosts.update(name for name, report in usage.items() if report is not None)
        if full:
            hosts.intersection_update(usage)
        told.append(({name: usage.get(name) or Usage() for name in hosts}, Counter(tally)))
        answer = answers[min(len(told), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys(hosts, answer)

    return told, sync


async def test_a_closed_host_is_told_to_those_who_wait_and_to_those_who_come() -> None:
    _, sync = scripted(Lease(0, 0.0, closed="host_unreachable"))
    async with turns_of(Turns(sync, 64)) as turns:
        results = await asyncio.gather(*(Host().ask(turns, "a") for _ in range(3)), return_exceptions=True)
        results += await asyncio.gather(Host().ask(turns, "a"), return_exceptions=True)
    assert [getattr(result, "reason", result) for result in results] == ["host_unreachable"] * 4
    assert all(isinstance(result, HostClosed) for result in results)


async def test_a_lender_that_is_away_for_a_moment_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_S", 0.01)
    told, sync = scripted(Lease(2, FAST), ConnectionError(), ConnectionError(), Lease(2, FAST))
    host = Host()
    async with turns_of(Turns(sync, 64)) as turns:
        await host.ask(turns, "a")
        turns.counts["ok"] += 1
        await until(lambda: len(told) >= 5)
        await host.ask(turns, "a")
        await until(lambda: sum(tally["ok"] for _, tally in told[3:]) == 1)  # what failed to arrive was told again
    assert len(host.begun) == 2


async def test_a_lease_of_a_host_that_the_worker_gave_back_stops_nothing() -> None:
    async def sync(*_: object) -> dict[str, Lease]:
        return {name: Lease(2, FAST) for name in ("given back", "a")}

    async with asyncio.timeout(20), turns_of(Turns(sync, 64)) as turns:
        host = Host()
        await host.ask(turns, "a")
    assert len(host.begun) == 1


async def test_without_a_lender_nothing_is_asked_when_the_lease_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_S", 0.01)
    monkeypatch.setattr(module, "LEASE_S", 0.05)
    told, sync = scripted(Lease(2, FAST), *[ConnectionError()] * 20, Lease(2, FAST))
    host = Host()
    async with turns_of(Turns(sync, 64)) as turns:
        await host.ask(turns, "a")
        await until(lambda: len(told) >= 12)
        waits = asyncio.create_task(host.ask(turns, "a"))
        await until(lambda: len(told) >= 18)
        assert not waits.done()
        await waits
    assert len(told) > 21


async def test_what_a_host_answered_is_told_once() -> None:
    told, sync = scripted(Lease(8, FAST))
    host = Host()
    async with turns_of(Turns(sync, 64)) as turns:
        for status in (200, 404, 429, 503, 0, 0):
            await host.ask(turns, "a", status=status)
        await until(lambda: sum(u["a"].answered for u, _ in told if "a" in u) == 4)
        await until(lambda: sum(u["a"].unreachable for u, _ in told if "a" in u) == 2)
    statuses = sum((u["a"].statuses for u, _ in told if "a" in u), Counter[int]())
    assert statuses == {429: 1, 503: 1}
    assert sum(u["a"].num_bytes for u, _ in told if "a" in u) == 4


@pytest.mark.parametrize("status", [429, 403])
async def test_a_pause_is_kept_at_once_and_by_all_of_the_host_whatever_the_status(status: int) -> None:
    host = Host()
    async with turns_of(Limits(HostLimit(8, FAST))) as turns:
        async with turns.turn("a") as turn:
            turn.answered(status, 0, 0.0, retry_after_s=0.3)
            begin = asyncio.get_running_loop().time()
        await asyncio.gather(*(host.ask(turns, "a") for _ in range(3)))
        assert min(host.begun) >= begin + 0.3


async def test_closing_ends_at_any_moment() -> None:
    for rounds in range(30):
        turns = Turns(sync_alone(Limits(HostLimit(8, FAST))), 8)
        await Host().ask(turns, "a")
        turns._hurry.set()
        for _ in range(rounds % 5):
            await asyncio.sleep(0)
        await asyncio.wait_for(turns.close(), 10)


async def test_places_are_neither_lost_nor_made_when_many_give_up_at_any_moment() -> None:
    chance, together = random.Random(0), Host()
    hosts = {name: Host() for name in "abc"}

    async def ask(name: str) -> None:
        async with turns.turn(name, first=chance.random() < 0.2):
            for host in (hosts[name], together):
                host.now += 1
                host.peak = max(host.peak, host.now)
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                for host in (hosts[name], together):
                    host.now -= 1

    async with turns_of(Limits(HostLimit(3, FAST)), concurrency=5) as turns:
        await asyncio.gather(*(ask(name) for name in hosts))  # from now on there are leases
        tasks = []
        for _ in range(600):
            tasks.append(asyncio.create_task(ask(chance.choice("abc"))))
            if chance.random() < 0.5:
                chance.choice(tasks[-8:]).cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.wait(tasks)
        assert any(task.cancelled() for task in tasks)
        assert max(host.peak for host in hosts.values()) == 3
        assert together.peak == 5
        async with contextlib.AsyncExitStack() as held, asyncio.timeout(20):
            for name in "aaabb":  # all five are to be had
                await held.enter_async_context(turns.turn(name))


async def test_who_is_answered_frees_the_host_at_once_and_the_workers_room_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SYNC_S", 3600.0)  # what is free is given on at once, not at the next sync
    order: list[str] = []

    async def ask(name: str) -> None:
        async with turns.turn(name):
            order.append(name)

    async with turns_of(Limits(HostLimit(1, FAST)), concurrency=3) as turns:
        await asyncio.gather(ask("a"), ask("b"))  # from now on there are leases
        order.clear()
        async with turns.turn("a") as first, turns.turn("c"):
            first.answered(200, 1, 0.0)
            async with turns.turn("a") as second:  # the host has answered
                second.answered(200, 1, 0.0)
                waits = asyncio.create_task(ask("b"))  # but all of the worker's room is in use
                for _ in range(10):
                    await asyncio.sleep(0)
                assert not order
            await asyncio.wait_for(waits, 20)
    assert order == ["b"]


async def test_a_host_that_was_closed_is_asked_again_once_it_is_open() -> None:
    closed = Lease(0, 0.0, closed="host_unreachable")
    _, sync = scripted(closed, closed, Lease(2, FAST))
    host, refused = Host(), 0
    async with turns_of(Turns(sync, 64)) as turns, asyncio.timeout(20):
        while not host.begun:
            try:
                await host.ask(turns, "a")
            except HostClosed:
                refused += 1
                await asyncio.sleep(0)
    assert refused
    assert len(host.begun) == 1


async def test_a_host_that_is_needed_no_more_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_S", 0.01)
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    told, sync = scripted(Lease(2, FAST))
    async with turns_of(Turns(sync, 64)) as turns:
        async with turns.turn("used"):
            await Host().ask(turns, "idle")
            await until(lambda: told[-1][0].keys() == {"used"})
        assert sum(usage["idle"].answered for usage, _ in told if "idle" in usage) == 1


async def test_a_lease_made_smaller_counts_in_full_until_the_worker_has_it() -> None:
    lend, gate, done, calls = HostLimits(Limits(HostLimit(8, FAST))), asyncio.Event(), asyncio.Event(), Counter[str]()
    gate.set()

    async def sync(member: str, usage: module.Reports, tally: Counter[str], full: bool) -> dict[str, Lease] | None:
        answer = lend.sync(member, usage, tally, asyncio.get_running_loop().time(), full=full)
        calls[member] += 1
        if member == slow._member:
            await gate.wait()  # the answer is on its way
        return answer

    slow, other = Turns(sync, 64), Turns(sync, 64)
    now = peak = 0

    async def ask(turns: Turns) -> None:
        nonlocal now, peak
        async with turns.turn("a"):
            now += 1
            peak = max(peak, now)
            await done.wait()
            now -= 1

    async with turns_of(slow), turns_of(other):
        await Host().ask(slow, "a")  # it has all eight places now, and runs nothing
        tasks = [asyncio.create_task(ask(other)) for _ in range(8)]
        await until(lambda: calls[other._member] > 0)
        gate.clear()
        seen = calls[slow._member]
        await until(lambda: calls[slow._member] > seen)
        tasks += [asyncio.create_task(ask(slow)) for _ in range(8)]
        seen = calls[other._member]
        await until(lambda: calls[other._member] > seen + 1)
        gate.set()
        await until(lambda: now >= 8)
        done.set()
        await asyncio.gather(*tasks)
    assert peak == 8


async def test_a_lease_ends_also_while_whoever_lends_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_S", 0.01)
    monkeypatch.setattr(module, "LEASE_S", 0.05)
    hangs, told = asyncio.Event(), Counter[str]()

    async def sync(member: str, usage: module.Reports, tally: Counter[str], full: bool) -> dict[str, Lease]:
        told["calls"] += 1
        if told["calls"] > 1:
            await hangs.wait()
        return dict.fromkeys(usage, Lease(2, FAST))

    host = Host()
    async with turns_of(Turns(sync, 8)) as turns:
        await host.ask(turns, "a")
        end = asyncio.get_running_loop().time() + 2 * module.LEASE_S
        await until(lambda: told["calls"] == 2 and asyncio.get_running_loop().time() > end)
        waits = asyncio.create_task(host.ask(turns, "a"))
        for _ in range(9):
            await asyncio.sleep(0)
        assert not waits.done()
        hangs.set()
        await waits
    assert len(host.begun) == 2


async def test_a_slow_rate_is_kept_also_when_the_host_was_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_S", 0.01)
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    host = Host()
    async with turns_of(Limits(HostLimit(1, 2.0))) as turns:
        await host.ask(turns, "a")
        end = asyncio.get_running_loop().time() + 4 * module.IDLE_S
        await until(lambda: asyncio.get_running_loop().time() > end)
        await host.ask(turns, "a")
    assert host.begun[1] - host.begun[0] >= 0.5


async def test_closing_without_anybody_who_lends_raises_nothing() -> None:
    told, sync = scripted(Lease(2, FAST), *[ConnectionError()] * 99)
    async with turns_of(Turns(sync, 8)) as turns:
        await Host().ask(turns, "a")
        turns.counts["ok"] += 1
    assert told[-1][0] == {}


async def test_a_host_may_not_ask_for_a_longer_pause_than_the_memory_is() -> None:
    turns = Turns(sync_alone(Limits(HostLimit(3, FAST), memory_s=0.05)), 8, memory_s=0.05)
    async with turns_of(turns):
        async with turns.turn("h") as turn:
            turn.answered(429, 0, 0.1, 86400.0)
        async with asyncio.timeout(5), turns.turn("h") as turn:
            turn.answered(200, 0, 0.1)
