"""How often a host may be asked, over the whole cluster: one HostLimits decides for all workers.

A host's places (requests at a time) are lent to the workers that need them. Each place carries its part of the host's
requests per second. So all workers together stay within both limits. Each worker reports what it uses and needs, and
what its hosts answered. A busy host gets fewer requests from all workers, a dead host none.

Pure: the time is an argument, and nothing here knows Ray or HTTP.
"""

import bisect
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from aitax_ray.images.answers import HOST_UNREACHABLE, TOO_MANY_REQUESTS

WORKER_EXPIRES_S = 15.0  # a worker that did not report for so long is gone, and its requests with it
TENURE_S = 5.0  # how long a worker keeps its last place while another has none
# Shares of a host's limits after it said that it is busy; 503 is milder, since it often is one URL that fails.
CUT = {429: 0.5, 503: 0.75}
CUT_EVERY_S = 1.0  # answers to requests from before the cut do not cut again
MIN_SHARE = 1 / 16
RECOVERY_S = 30.0  # from nothing to the full limits
MAX_PAUSE_S = 120.0  # a host that asks for a longer pause is left to a later run
DEAD_AFTER = 10  # requests in a row without any answer
DEAD_FOR_S, DEAD_FOR_MAX_S = 60.0, 900.0  # until one request may try again; twice as long each time
GRACE_S = 8.0  # after a restart: until all workers have reported what they hold


@dataclass(frozen=True)
class HostLimit:
    """What one host is asked at most, by all workers together."""

    concurrent: int  # requests at a time
    per_second: float  # requests per second


# S3 serves thousands of requests a second, and iNaturalist keeps its photographs there to be downloaded in bulk
# (https://registry.opendata.aws/inaturalist-open-data/).
OVERRIDES = {"inaturalist-open-data.s3.amazonaws.com": HostLimit(64, 200.0)}


@dataclass(frozen=True)
class Limits:
    """The limits of every host."""

    default: HostLimit
    overrides: dict[str, HostLimit] = field(default_factory=dict)
    # Longest time in seconds that a host is not asked after failures, and that it is known after its last request. A
    # service for strangers forgets soon: one may name URLs that fail, of a host that another one needs.
    memory_s: float = math.inf

    def of(self, host: str) -> HostLimit:
        """The limit of a host."""
        return self.overrides.get(host, self.default)


@dataclass
class Usage:
    """A worker's report on a host: its requests now, and the answers since its last report."""

    places: int = 0  # that it has by the last lease that reached it
    running: int = 0
    waiting: int = 0
    answered: int = 0  # with whatever status
    unreachable: int = 0  # without any answer, in a row, up to now
    statuses: Counter[int] = field(default_factory=Counter)  # of CUT only
    retry_after_s: float = 0.0  # the longest that was asked for
    num_bytes: int = 0
    seconds: float = 0.0  # that answered requests took, in sum

    def followed_by(self, later: "Usage") -> "Usage":
        """Add a later report to this one."""
        return Usage(
            answered=self.answered + later.answered,
            unreachable=later.unreachable + (0 if later.answered else self.unreachable),
            statuses=self.statuses + later.statuses,
            retry_after_s=max(self.retry_after_s, later.retry_after_s),
            num_bytes=self.num_bytes + later.num_bytes,
            seconds=self.seconds + later.seconds,
        )


@dataclass(frozen=True)
class Lease:
    """What a worker may do with a host until its next report."""

    places: int
    per_second: float
    pause_s: float = 0.0  # from now
    closed: str = ""  # the reason why the host is not asked at all, one of answers.REASONS


@dataclass(frozen=True)
class HostState:
    """The state of a host, to be shown to people."""

    host: str
    running: int
    waiting: int
    answered: int
    num_bytes: int
    seconds: float
    share: float  # of its limits, in (0, 1]
    capacity: float  # requests per second that it can serve, as far as is known
    closed: str


class HostLimits:
    """Lends the hosts' places to workers."""

    def __init__(self, limits: Limits, *, restarted_at: float | None = None) -> None:
        self.limits = limits
        self._hosts: dict[str, _Host] = {}
        self._workers: dict[str, _Worker] = {}
        self._counts: Counter[str] = Counter()
        self._strict_until = -math.inf if restarted_at is None else restarted_at + GRACE_S

    def sync(
        self,
        worker_name: str,
        usage: Mapping[str, Usage | None],
        counts: Counter[str],
        now: float,
        *,
        full: bool = True,
    ) -> dict[str, Lease] | None:
        """Take a worker's reports on its hosts, and lend it places there.

        If `full`, `usage` names all hosts of the worker, and places at others are taken back. Otherwise it names those
        whose usage changed; None gives a host back, and the answer also has the leases of other hosts that changed.
        The answer is None, and nothing is taken, when the worker is not known here and must send all. `counts` are
        added to `counted`. `now` is in seconds by any clock that does not go backwards.
        """
        for name in [n for n, w in self._workers.items() if w.seen <= now - WORKER_EXPIRES_S and n != worker_name]:
            self._forget(name)
        if worker_name not in self._workers and not full:
            return None
        worker = self._workers.setdefault(worker_name, _Worker())
        worker.seen, strict = now, now < self._strict_until
        if not strict and self._strict_until > -math.inf:
            self._strict_until = -math.inf
            for host in self._hosts.values():  # more may be lent now, also to workers with no changes to report
                host.version += 1
        self._counts.update(counts)
        for name in [n for n, host in self._hosts.items() if host.is_forgotten(now)]:
            del self._hosts[name]
        given_back = [name for name in worker.members if usage.get(name) is None and (full or name in usage)]
        for name in given_back:
            self._hosts[name].remove(worker.members.pop(name))
        leases = {}
        for name, report in usage.items():
            if report is not None:
                host = self._hosts.setdefault(name, _Host(self.limits.of(name), self.limits.memory_s))
                member = worker.members.setdefault(name, _Member(since=now))
                leases[name] = host.sync(member, report, now, strict=strict)
        if not full:
            for name, member in worker.members.items():
                host = self._hosts[name]
                if name not in leases and (strict or host.is_due(member, now)):
                    same = Usage(places=member.holds, running=member.running, waiting=member.waiting)
                    before = member.lease
                    lease = host.sync(member, same, now, strict=strict)
                    if lease != before:
                        leases[name] = lease
        return leases

    def counted(self) -> Counter[str]:
        """The sum of what workers counted."""
        return Counter(self._counts)

    def states(self) -> list[HostState]:
        """The state of each host."""
        return [host.state(name) for name, host in self._hosts.items()]

    def _forget(self, worker_name: str) -> None:
        for name, member in self._workers.pop(worker_name).members.items():
            self._hosts[name].remove(member)


@dataclass
class _Worker:
    seen: float = 0.0
    members: "dict[str, _Member]" = field(default_factory=dict)  # by the names of its hosts


@dataclass(eq=False)
class _Member:
    """A worker as one host knows it."""

    places: int = 0
    holds: int = 0  # as the worker last said; until it says so, a smaller lease has not reached it
    running: int = 0
    waiting: int = 0
    since: float = 0.0  # when it got its first place, or lost its last one
    lease: Lease | None = None
    version: int = -1  # of the host when the lease was made
    counted: "_Part | None" = None


@dataclass(frozen=True)
class _Part:
    """What a member adds to its host's sums."""

    taken: int  # places that others cannot have
    wants: bool
    running: int
    waiting: int
    hungry_since: float | None  # it waits without any place

    @classmethod
    def of(cls, member: _Member) -> "_Part":
        hungry = bool(member.waiting and not member.places and not member.running)
        return cls(
            # A lease that was made smaller counts in full until the worker has it and its other requests have ended.
            taken=max(member.places, member.running, member.holds),
            wants=member.running + member.waiting > 0,
            running=member.running,
            waiting=member.waiting,
            hungry_since=member.since if hungry else None,
        )


class _Host:
    """A host, and the sums over its members."""

    def __init__(self, limit: HostLimit, memory_s: float) -> None:
        self.limit, self.memory_s = limit, memory_s
        self.num_members, self.synced_at = 0, -math.inf
        self.taken = self.num_wanting = self.running = self.waiting = 0
        self.hungry: list[float] = []  # since when, sorted
        self.version = 0  # rises with each change that may change the leases of other members
        self.share, self.recovered_at, self.cut_at = 1.0, 0.0, -math.inf
        self.paused_until = self.closed_until = -math.inf
        self.closed = ""
        self.unreachable, self.dead_for_s = 0, min(DEAD_FOR_S, memory_s)
        self.total = Usage()

    def sync(self, member: _Member, report: Usage, now: float, *, strict: bool) -> Lease:
        version, before = self.version, self._common()
        part = self._subtract(member)
        member.running, member.waiting, member.holds = report.running, report.waiting, report.places
        if strict:  # what it holds from before is all that is known to be safe
            member.places = max(member.places, report.running, report.places)
        self._learn(report, now)
        closed = self._closed(now)
        if closed:
            member.places = 0
            lease = Lease(0, 0.0, closed=closed)
        else:
            places = self._places()
            self._lend(member, places, now, strict)
            # A place never carries more than its part of the full rate: so no mix of older and newer leases exceeds it.
            rate = self.limit.per_second * min(1 / self.limit.concurrent, self.share / places)
            lease = Lease(member.places, rate * member.places, pause_s=max(0.0, self.paused_until - now))
        self._add(member)
        self.synced_at = now
        self.num_members += part is None
        if part is None or part != member.counted or before != self._common():
            self.version += 1
        member.lease, member.version = lease, version
        return lease

    def is_due(self, member: _Member, now: float) -> bool:
        """Tell whether the member's lease may have changed although nothing changed at the worker."""
        if member.version != self.version:
            return True
        was_paused = member.lease is not None and member.lease.pause_s > 0
        is_recovering = self.share < 1 or self.closed or self.paused_until > now or was_paused
        return bool(is_recovering or (member.places and self.hungry and now > member.since + TENURE_S))

    def is_forgotten(self, now: float) -> bool:
        """Tell whether no worker has used the host for so long that nothing is known of it any more."""
        return not self.num_members and now > self.synced_at + self.memory_s

    def remove(self, member: _Member) -> None:
        """Take back what a member has."""
        self.num_members -= member.counted is not None
        self._subtract(member)
        self.version += 1

    def _common(self) -> tuple[float, str, float, bool]:
        """What all leases depend on."""
        return self.share, self.closed, self.paused_until, self.unreachable >= DEAD_AFTER

    def _subtract(self, member: _Member) -> _Part | None:
        part, member.counted = member.counted, None
        if part is not None:
            self._count(part, -1)
            if part.hungry_since is not None:
                del self.hungry[bisect.bisect_left(self.hungry, part.hungry_since)]
        return part

    def _add(self, member: _Member) -> None:
        part = member.counted = _Part.of(member)
        self._count(part, 1)
        if part.hungry_since is not None:
            bisect.insort(self.hungry, part.hungry_since)

    def _count(self, part: _Part, sign: int) -> None:
        self.taken += sign * part.taken
        self.num_wanting += sign * part.wants
        self.running += sign * part.running
        self.waiting += sign * part.waiting

    def _lend(self, member: _Member, places: int, now: float, strict: bool) -> None:
        """Give a worker its part. None is without a place for ever, and together they never have more than there are.

        The sums are those of the other members.
        """
        wanting, held = 1 + self.num_wanting, member.places
        free = places - self.taken
        if not held:  # those who have been without for longer go first
            free -= bisect.bisect_left(self.hungry, member.since)
        fair = max(1, places // wanting) if self.hungry else math.ceil(places / wanting)
        granted = max(0, min(fair, free, held if strict else places))
        if held and self.hungry and wanting > places and now > member.since + TENURE_S:
            granted = 0
        if bool(granted) != bool(held):
            member.since = now
        member.places = granted

    def _learn(self, report: Usage, now: float) -> None:
        """Conclude from the answers whether the host is well, busy or dead."""
        total = self.total
        total.answered += report.answered
        total.num_bytes += report.num_bytes
        total.seconds += report.seconds
        if report.answered:
            self.unreachable, self.dead_for_s = 0, min(DEAD_FOR_S, self.memory_s)
        self.unreachable += report.unreachable
        self.share = min(1.0, self.share + max(0.0, now - self.recovered_at) / RECOVERY_S)
        self.recovered_at = max(self.recovered_at, now)
        if report.statuses and now >= self.cut_at + CUT_EVERY_S:
            self.share = max(MIN_SHARE, self.share * min(CUT[status] for status in report.statuses))
            self.cut_at = now
        pause_s = min(report.retry_after_s, self.memory_s)
        if pause_s > MAX_PAUSE_S:
            self._close(TOO_MANY_REQUESTS, now + pause_s)
        elif pause_s:
            self.paused_until = max(self.paused_until, now + pause_s)
            self.recovered_at = max(self.recovered_at, self.paused_until)  # it cannot recover while it is not asked
        if self.unreachable >= DEAD_AFTER and report.unreachable and not self._closed(now):
            self._close(HOST_UNREACHABLE, now + self.dead_for_s)
            self.dead_for_s = min(2 * self.dead_for_s, DEAD_FOR_MAX_S, self.memory_s)

    def _close(self, reason: str, until: float) -> None:
        self.closed, self.closed_until = reason, max(self.closed_until, until)
        self.recovered_at = max(self.recovered_at, self.closed_until)

    def _closed(self, now: float) -> str:
        if now >= self.closed_until:
            self.closed = ""
        return self.closed

    def _places(self) -> int:
        """How many requests at a time the host gets; one request at a time tries a host that was dead."""
        return 1 if self.unreachable >= DEAD_AFTER else max(1, round(self.limit.concurrent * self.share))

    def state(self, name: str) -> HostState:
        total, limit = self.total, self.limit
        capacity = limit.per_second * self.share
        if total.seconds:
            capacity = min(capacity, limit.concurrent * self.share * total.answered / total.seconds)
        return HostState(
            host=name,
            running=self.running,
            waiting=self.waiting,
            answered=total.answered,
            num_bytes=total.num_bytes,
            seconds=total.seconds,
            share=self.share,
            capacity=capacity,
            closed=self.closed,
        )
