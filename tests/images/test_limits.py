import itertools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitax_ray.images import limits as module
from aitax_ray.images.limits import (
    CUT_EVERY_S,
    DEAD_AFTER,
    DEAD_FOR_MAX_S,
    DEAD_FOR_S,
    GRACE_S,
    MAX_PAUSE_S,
    MIN_SHARE,
    RECOVERY_S,
    TENURE_S,
    WORKER_EXPIRES_S,
    HostLimit,
    HostLimits,
    Lease,
    Limits,
    Usage,
)

HOST = "a.org"


def lender(concurrent: int = 8, per_second: float = 10.0, **overrides: HostLimit) -> HostLimits:
    return HostLimits(Limits(HostLimit(concurrent, per_second), overrides))


def tell(hosts: HostLimits, member: str = "m", now: float = 0.0, **news: object) -> Lease:
    usage = Usage(**{"waiting": 100, **news})  # type: ignore[arg-type]
    return sync(hosts, member, {HOST: usage}, now)[HOST]


def sync(
    hosts: HostLimits, worker: str, usage: Mapping[str, Usage | None], now: float = 0.0, *, full: bool = True
) -> dict[str, Lease]:
    leases = hosts.sync(worker, usage, Counter(), now, full=full)
    assert leases is not None
    return leases


def test_one_worker_gets_all_of_a_hosts_places_and_rate() -> None:
    assert tell(lender(8, 10.0)) == Lease(8, 10.0)


def test_a_host_may_have_limits_of_its_own() -> None:
    hosts = HostLimits(Limits(HostLimit(8, 10.0), {"b.org": HostLimit(2, 1.0)}))
    leases = sync(hosts, "m", {HOST: Usage(waiting=1), "b.org": Usage(waiting=1)})
    assert leases == {HOST: Lease(8, 10.0), "b.org": Lease(2, 1.0)}


def test_two_workers_share_as_soon_as_the_first_has_let_go() -> None:
    hosts = lender()
    assert tell(hosts, "a", 0.0).places == 8
    assert tell(hosts, "b", 0.1).places == 0  # all are lent
    assert tell(hosts, "a", 0.5, running=8).places == 4  # but eight requests are still under way
    assert tell(hosts, "b", 0.6).places == 0
    assert tell(hosts, "a", 1.0, running=3) == Lease(4, 5.0)
    assert tell(hosts, "b", 1.1) == Lease(4, 5.0)


def test_places_come_back_from_whoever_needs_them_no_more_and_from_the_lost() -> None:
    hosts = lender()
    tell(hosts, "a", 0.0)
    hosts.sync("a", {}, Counter(), 1.0)
    assert tell(hosts, "b", 1.0).places == 8
    assert tell(hosts, "c", 1.0 + WORKER_EXPIRES_S - 0.1).places == 0
    assert tell(hosts, "c", 1.0 + WORKER_EXPIRES_S + 0.1).places == 8


def test_of_more_workers_than_places_each_has_its_turn() -> None:
    hosts, had = lender(concurrent=2), Counter[str]()
    for step in range(200):
        for member in "abcdef":
            had[member] += tell(hosts, member, step * 0.5).places
    assert min(had.values()) > 200 * 2 / 6 / 3


@pytest.mark.parametrize("seed", range(20))
def test_never_more_is_lent_than_the_host_may_be_asked(seed: int) -> None:
    chance, now = random.Random(seed), 0.0
    limit = HostLimit(chance.choice([1, 2, 5, 8, 64]), 10.0)
    hosts = HostLimits(Limits(limit))
    leases: dict[str, Lease] = {}
    running: dict[str, int] = {}
    for _ in range(300):
        now += chance.expovariate(2)
        member = f"m{chance.randrange(chance.choice([2, 4, 20]))}"
        # Requests end, others begin, within what is lent; then the worker tells.
        held = leases.get(member, Lease(0, 0.0)).places
        running[member] = chance.randint(0, max(held, running.get(member, 0)))
        lost = [name for name in leases if name != member and chance.random() < 0.02]
        for name in lost:  # its requests ended with it
            del leases[name], running[name]
            hosts.sync(name, {}, Counter(), now)
        news = {"running": running[member], "waiting": chance.choice([0, 3, 50])}
        news["statuses"] = Counter({429: 1} if chance.random() < 0.1 else {})
        for name in leases:  # all are heard of, so that none expires
            if name != member:
                usage = Usage(running=running[name], waiting=1)
                leases[name] = sync(hosts, name, {HOST: usage}, now)[HOST]
        leases[member] = tell(hosts, member, now, **news)
        under_way = {name: max(lease.places, running[name]) for name, lease in leases.items()}
        assert sum(under_way.values()) <= limit.concurrent
        assert sum(lease.per_second for lease in leases.values()) <= limit.per_second * 1.0001


def test_a_busy_host_is_asked_less_and_gradually_more_again() -> None:
    hosts = lender(8, 10.0)
    tell(hosts)
    assert tell(hosts, now=10.0, statuses=Counter({429: 5})) == Lease(4, 5.0)
    # What comes within the same second says nothing new.
    assert tell(hosts, now=10.0 + CUT_EVERY_S / 2, statuses=Counter({429: 5})).per_second == pytest.approx(
        5.0, rel=0.05
    )
    rates = [tell(hosts, now=10.0 + seconds).per_second for seconds in range(2, 21)]
    assert rates == sorted(rates)
    assert all(later - sooner < 1 for sooner, later in itertools.pairwise(rates))
    assert tell(hosts, now=10.0 + RECOVERY_S) == Lease(8, 10.0)


def test_an_unavailable_url_costs_less_than_a_busy_host_and_no_host_is_given_up() -> None:
    hosts = lender(8, 10.0)
    assert tell(hosts, statuses=Counter({503: 1})).per_second == 7.5
    for second in range(1, 100):
        lease = tell(hosts, now=float(second), statuses=Counter({429: 1}))
    assert lease.places == 1
    assert 10 * MIN_SHARE <= lease.per_second < 1.5


def test_a_pause_is_everybodys_and_a_long_one_closes_the_host() -> None:
    hosts = lender()
    tell(hosts, "a", 0.0)
    assert tell(hosts, "a", 1.0, statuses=Counter({429: 1}), retry_after_s=7.0).pause_s == 7.0
    assert tell(hosts, "b", 3.0).pause_s == 5.0
    assert tell(hosts, "b", 9.0).pause_s == 0.0
    long = MAX_PAUSE_S + 1
    assert tell(hosts, "a", 10.0, statuses=Counter({429: 1}), retry_after_s=long).closed == "too_many_requests"
    assert tell(hosts, "b", 10.0 + long - 1).closed == "too_many_requests"
    assert not tell(hosts, "b", 10.0 + long + 1).closed


def test_a_host_that_never_answers_is_closed_and_tried_ever_more_rarely() -> None:
    hosts = lender()
    assert not tell(hosts, "a", unreachable=DEAD_AFTER - 1).closed
    assert tell(hosts, "b", 1.0, unreachable=1) == Lease(0, 0.0, closed="host_unreachable")
    assert tell(hosts, "a", DEAD_FOR_S, unreachable=3).closed  # those were under way
    now = 1.0 + DEAD_FOR_S
    assert tell(hosts, "a", now).places == 1
    assert tell(hosts, "a", now + 1, unreachable=1).closed == "host_unreachable"
    assert tell(hosts, "a", now + DEAD_FOR_S + 2).closed  # twice as long
    now += 1 + 2 * DEAD_FOR_S
    assert tell(hosts, "a", now).places == 1
    assert tell(hosts, "a", now + 1, answered=1).places == 8


def test_one_answer_makes_good_for_failures_before_it() -> None:
    hosts = lender()
    for second in range(10):
        assert not tell(hosts, now=float(second), unreachable=DEAD_AFTER - 1, answered=1).closed


def test_after_a_restart_nothing_is_lent_before_all_have_told_what_they_hold() -> None:
    hosts = HostLimits(Limits(HostLimit(8, 10.0)), restarted_at=100.0)
    assert tell(hosts, "a", 100.1, running=5).places == 5
    assert tell(hosts, "b", 100.2, running=0).places == 0
    assert tell(hosts, "b", 100.0 + GRACE_S + 0.1).places <= 3


def test_a_worker_that_got_nothing_after_a_restart_gets_places_later_although_it_has_no_changes_to_report() -> None:
    hosts = HostLimits(Limits(HostLimit(8, 10.0)), restarted_at=100.0)
    assert tell(hosts, "a", 100.1).places == 0
    assert sync(hosts, "a", {}, 100.0 + GRACE_S - 0.1, full=False) == {}
    assert sync(hosts, "a", {}, 100.0 + GRACE_S + 0.1, full=False)[HOST].places == 8
    assert sync(hosts, "a", {}, 100.0 + GRACE_S + 0.2, full=False) == {}


def test_what_workers_count_and_what_hosts_do_is_told() -> None:
    hosts = lender()
    hosts.sync("a", {HOST: Usage(running=1, waiting=2, answered=4, num_bytes=9, seconds=8.0)}, Counter(ok=3), 0.0)
    hosts.sync("b", {HOST: Usage(running=1, waiting=3)}, Counter(ok=1, timeout=2), 0.0)
    assert hosts.counted() == {"ok": 4, "timeout": 2}
    (state,) = hosts.states()
    assert (state.host, state.running, state.waiting, state.answered, state.num_bytes) == (HOST, 2, 5, 4, 9)
    assert state.capacity == 4.0  # eight at a time, two seconds each; below ten a second


def test_a_workers_last_place_is_its_own_for_a_while() -> None:
    hosts = lender(concurrent=1)
    assert tell(hosts, "a", 0.0).places == 1
    assert tell(hosts, "b", 1.0).places == 0
    assert tell(hosts, "a", TENURE_S - 1).places == 1
    assert tell(hosts, "a", TENURE_S + 1).places == 0
    assert tell(hosts, "b", TENURE_S + 2).places == 1


def test_leases_end_before_those_who_hold_them_are_given_up() -> None:
    from aitax_ray.images.turns import LEASE_S

    assert LEASE_S < module.WORKER_EXPIRES_S


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    concurrent=st.integers(1, 12),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["tell", "tell", "tell", "start", "end", "busy", "unreachable", "vanish", "restart"]),
            st.integers(0, 4),
            st.floats(0.0, 4.0),
        ),
        max_size=80,
    ),
)
def test_no_worker_that_comes_goes_or_is_lost_and_no_restart_makes_more_requests_than_the_limit(
    concurrent: int, steps: list[tuple[str, int, float]]
) -> None:
    limits = Limits(HostLimit(concurrent, 10.0))
    hosts, now = HostLimits(limits), 0.0
    places: dict[int, int] = {}  # of the workers that live; what a worker may run, and what it runs
    running: dict[int, int] = {}
    seen: dict[int, float] = {}

    def tell_all(member: int, **news: object) -> None:
        lease = tell(hosts, str(member), now, running=running.setdefault(member, 0), **news)
        places[member], seen[member] = lease.places, now

    for what, member, amount in steps:
        now += amount
        for other in [name for name in seen if seen[name] < now - 8.0]:  # those that live tell more often than that
            tell_all(other)
        if what == "tell":
            tell_all(member)
        elif what == "busy":
            tell_all(member, statuses=Counter({429: 1}))
        elif what == "unreachable":
            tell_all(member, unreachable=3)
        elif what == "restart":
            hosts = HostLimits(limits, restarted_at=now)
            for other in sorted(seen, key=lambda name: (name + member) % 5):
                tell_all(other)
        elif member in seen:
            if what == "start":
                running[member] = max(running[member], places[member])
            elif what == "end":
                running[member] = int(running[member] * amount / 4)
            else:  # with all its requests, and without a word
                del places[member], running[member], seen[member]
        assert sum(max(places[name], running[name]) for name in seen) <= concurrent


def test_a_dead_host_is_tried_by_one_worker_only() -> None:
    hosts = lender()
    for member in "abc":
        tell(hosts, member, unreachable=DEAD_AFTER)
    probes = [tell(hosts, member, DEAD_FOR_S + 1) for member in "abc" * 2]
    assert [lease.places for lease in probes] == [1, 0, 0, 1, 0, 0]
    assert not any(lease.closed for lease in probes)


def test_a_dead_host_is_never_left_alone_for_longer_than_the_longest_time() -> None:
    hosts, now, closed = lender(), 0.0, []
    for _ in range(8):
        assert tell(hosts, now=now, unreachable=DEAD_AFTER).closed == "host_unreachable"
        begin = now
        while tell(hosts, now=now).closed:
            now += DEAD_FOR_S / 2
        closed.append(now - begin)
    assert closed[:3] == [DEAD_FOR_S, 2 * DEAD_FOR_S, 4 * DEAD_FOR_S]
    assert closed[-2:] == [DEAD_FOR_MAX_S] * 2


def test_what_is_told_of_a_host_says_whether_it_is_closed_or_slowed_down() -> None:
    hosts = lender()
    usage = {"closed": Usage(unreachable=DEAD_AFTER), "slowed": Usage(statuses=Counter({429: 1})), "well": Usage()}
    hosts.sync("m", usage, Counter(), 0.0)
    states = {state.host: (state.closed, state.share, state.capacity) for state in hosts.states()}
    assert states == {"closed": ("host_unreachable", 1.0, 10.0), "slowed": ("", 0.5, 5.0), "well": ("", 1.0, 10.0)}


@pytest.mark.parametrize(("places", "workers"), [(1, 2), (2, 3), (8, 5), (8, 9)])
def test_nobody_is_without_a_place_for_ever(places: int, workers: int) -> None:
    hosts, had, running = lender(concurrent=places), Counter[int](), Counter[int]()
    for step in range(400):
        for member in range(workers):  # each uses all that it is lent
            lease = tell(hosts, str(member), step * 0.5, running=running[member], places=running[member])
            running[member] = lease.places
            had[member] += lease.places
    assert all(had[member] for member in range(workers)), had


def test_the_rates_lent_never_exceed_the_hosts_while_it_recovers() -> None:
    hosts = lender(2, 10.0)
    tell(hosts, "a", 100.0, statuses=Counter({429: 1}))  # one place, half the rate
    a = tell(hosts, "a", 107.4)  # just below three quarters: one place still
    b = tell(hosts, "b", 107.6)  # just above: two
    assert b.places
    assert a.per_second + b.per_second <= 10.0


def test_a_host_does_not_recover_while_it_is_not_asked() -> None:
    hosts = lender()
    tell(hosts, "a", 100.0, statuses=Counter({429: 1}), retry_after_s=2 * RECOVERY_S)
    assert tell(hosts, "a", 100.0 + 2 * RECOVERY_S) == Lease(4, 5.0)


def test_a_host_may_ask_for_a_pause_with_any_status() -> None:
    hosts = lender()
    assert tell(hosts, "a", 100.0, answered=1, retry_after_s=30.0).pause_s == 30.0
    assert tell(hosts, "b", 110.0).pause_s == 20.0


def test_a_lost_worker_runs_nothing_and_waits_for_nothing() -> None:
    hosts = lender()
    tell(hosts, "lost", 0.0, running=2, waiting=9)
    tell(hosts, "b", WORKER_EXPIRES_S + 1.0, waiting=0)
    assert (hosts.states()[0].running, hosts.states()[0].waiting) == (0, 0)


def test_news_that_did_not_arrive_are_told_with_the_next() -> None:
    first = Usage(answered=2, unreachable=1, statuses=Counter({429: 1}), retry_after_s=9.0, num_bytes=5, seconds=1.0)
    later = Usage(answered=0, unreachable=3, statuses=Counter({503: 1}), retry_after_s=2.0, num_bytes=1, seconds=0.5)
    assert first.followed_by(later) == Usage(
        answered=2, unreachable=4, statuses=Counter({429: 1, 503: 1}), retry_after_s=9.0, num_bytes=6, seconds=1.5
    )
    assert later.followed_by(first).unreachable == 1  # an answer makes good for the failures before it


def test_a_worker_that_is_not_known_must_send_all() -> None:
    hosts = lender()
    assert hosts.sync("m", {HOST: Usage(answered=1)}, Counter(ok=1), 0.0, full=False) is None
    assert (hosts.states(), hosts.counted()) == ([], Counter())  # nothing was taken
    assert tell(hosts, waiting=1).places == 8
    tell(hosts, "other", WORKER_EXPIRES_S + 1)
    assert hosts.sync("m", {}, Counter(), WORKER_EXPIRES_S + 2, full=False) is None  # it was given up


def test_a_host_is_given_back_by_name() -> None:
    hosts = lender()
    tell(hosts, "a")
    assert tell(hosts, "b").places == 0
    assert sync(hosts, "a", {HOST: None}, full=False) == {}
    assert sync(hosts, "b", {}, full=False)[HOST].places == 8


def test_leases_that_did_not_change_are_not_sent() -> None:
    hosts = lender()
    sync(hosts, "a", {name: Usage(waiting=1) for name in "xyz"})
    sync(hosts, "a", {}, full=False)
    assert sync(hosts, "a", {}, 1.0, full=False) == {}
    assert sync(hosts, "b", {"x": Usage(waiting=1)}, 1.1)["x"].places == 0
    assert sync(hosts, "a", {}, 1.2, full=False).keys() == {"x"}


@pytest.mark.parametrize("seed", range(30))
def test_who_sends_changes_gets_what_who_sends_all_gets(seed: int) -> None:
    """Two lenders see the same workers; one hears of all hosts each time, the other of those that changed."""
    chance, now, names = random.Random(seed), 100.0, "uvwxyz"
    limit = HostLimit(chance.choice([1, 2, 8]), 10.0)
    restarted_at = chance.choice([None, now])
    told_all, told_changes = (HostLimits(Limits(limit), restarted_at=restarted_at) for _ in range(2))
    present: dict[str, dict[str, Usage]] = {}  # worker -> host -> usage without reports
    reported: dict[str, dict[str, Usage]] = {}
    leases: dict[str, dict[str, Lease]] = {}
    for _ in range(400):
        now += chance.choice([0.0, 0.1, 0.5, 3.0])
        worker = f"w{chance.randrange(5)}"
        hosts = present.setdefault(worker, {})
        for name in names:
            match chance.randrange(12):
                case 0:
                    hosts.pop(name, None)
                case 1 | 2:
                    hosts[name] = Usage(waiting=chance.choice([0, 1, 9]))
                case 3 if name in hosts:
                    hosts[name] = replace(hosts[name], running=leases[worker][name].places if worker in leases else 0)
        for name, usage in hosts.items():
            lease = leases.get(worker, {}).get(name)
            hosts[name] = replace(usage, places=lease.places if lease else 0)
        news = {name: replace(usage) for name, usage in hosts.items()}
        for usage in news.values():
            match chance.randrange(20):
                case 0:
                    usage.statuses = Counter({429: 1})
                case 1:
                    usage.unreachable = DEAD_AFTER
                case 2:
                    usage.answered, usage.retry_after_s = 1, chance.choice([0.0, 5.0])
        full = worker not in reported
        changed: dict[str, Usage | None] = {
            name: usage for name, usage in news.items() if full or usage != reported[worker].get(name)
        }
        changed |= dict.fromkeys(set(reported.get(worker, {})) - set(hosts))
        expected = sync(told_all, worker, news, now)
        known = leases.setdefault(worker, {})
        answer = told_changes.sync(worker, changed, Counter(), now, full=full)
        if answer is None:
            answer = sync(told_changes, worker, news, now)
        known |= answer
        for name in set(known) - set(hosts):
            del known[name]
        assert known == expected
        reported[worker] = dict(hosts)
    assert told_changes.states() == told_all.states()


def test_a_short_memory_bounds_every_closure_and_forgets_hosts() -> None:
    hosts = HostLimits(Limits(HostLimit(8, 10.0), memory_s=3.0))
    now = 0.0
    for _ in range(4):  # a dead host would be closed for ever longer
        assert tell(hosts, now=now, unreachable=DEAD_AFTER).closed
        assert tell(hosts, now=now + 2.9).closed
        assert not tell(hosts, now=now + 3.1).closed
        now += 4
    assert tell(hosts, now=now, statuses=Counter({429: 1}), retry_after_s=86400.0).pause_s == 3.0
    assert not tell(hosts, now=now, statuses=Counter({429: 1}), retry_after_s=86400.0).closed
    sync(hosts, "m", {HOST: None}, now, full=False)
    sync(hosts, "m", {}, now + 2.9, full=False)
    assert [state.host for state in hosts.states()] == [HOST]
    sync(hosts, "m", {}, now + 3.1, full=False)
    assert hosts.states() == []
    assert tell(hosts, now=now + 3.2) == Lease(8, 10.0)


def test_without_a_bound_no_host_is_forgotten() -> None:
    hosts = lender()
    tell(hosts)
    sync(hosts, "m", {HOST: None}, 1.0, full=False)
    sync(hosts, "m", {}, 1e9, full=False)
    assert [state.host for state in hosts.states()] == [HOST]


def test_a_host_in_use_is_not_forgotten() -> None:
    hosts = HostLimits(Limits(HostLimit(8, 10.0), memory_s=3.0))
    tell(hosts)
    assert sync(hosts, "m", {}, 14.0, full=False) == {}
    assert len(hosts.states()) == 1
