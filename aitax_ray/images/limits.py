"""How often a host may be asked, over the whole cluster: one HostLimits decides for all workers.

A host's places (requests at a time) are lent to the workers that want them, and each place carries its part of the
host's requests a second, so that what all workers do together stays within both. A worker tells now and then what it
uses and wants, and what its hosts answered; a busy host gets fewer requests from everybody, a dead one none.

Pure: told the time, knows neither Ray nor HTTP.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

from aitax_ray.images.answers import HOST_UNREACHABLE, TOO_MANY_REQUESTS

MEMBER_EXPIRES_S = 15.0  # a worker that has not been heard of for so long is gone, and its requests with it
TENURE_S = 5.0  # how long a worker keeps its last place while another has none
# Shares of a host's limits after it said that it is busy; 503 is milder, since it often is one URL that fails.
CUT = {429: 0.5, 503: 0.75}
CUT_EVERY_S = 1.0  # what was on its way when the limits were cut says nothing new
MIN_SHARE = 1 / 16
RECOVERY_S = 30.0  # from nothing to the full limits
MAX_PAUSE_S = 120.0  # a host that asks for a longer pause is left to a later run
DEAD_AFTER = 10  # requests in a row without any answer
DEAD_FOR_S, DEAD_FOR_MAX_S = 60.0, 900.0  # until one request may try again; twice as long each time
GRACE_S = 8.0  # after a restart: until all workers have told what they hold


@dataclass(frozen=True)
class HostLimit:
    """What one host is asked at most, by all workers together."""

    concurrent: int  # requests at a time
    per_second: float  # requests a second


# S3 serves thousands of requests a second, and iNaturalist keeps its photographs there to be downloaded in bulk
# (https://registry.opendata.aws/inaturalist-open-data/).
OVERRIDES = {"inaturalist-open-data.s3.amazonaws.com": HostLimit(64, 200.0)}


@dataclass(frozen=True)
class Limits:
    """The limits of every host."""

    default: HostLimit
    overrides: dict[str, HostLimit] = field(default_factory=dict)

    def of(self, host: str) -> HostLimit:
        """The limit of a host."""
        return self.overrides.get(host, self.default)


@dataclass
class Usage:
    """What a worker tells of a host: its requests now, and what became of those since it last told."""

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
        """The news of both times, in one."""
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
    """What a worker may do with a host until it tells again."""

    places: int
    per_second: float
    pause_s: float = 0.0  # from now
    closed: str = ""  # the reason why the host is not asked at all, one of answers.REASONS


@dataclass(frozen=True)
class HostState:
    """How it goes with a host, for people."""

    host: str
    running: int
    waiting: int
    answered: int
    num_bytes: int
    seconds: float
    share: float  # of its limits, in (0, 1]
    capacity: float  # requests a second that it can take, as far as is known
    closed: str


class HostLimits:
    """Lends the hosts' places to workers."""

    def __init__(self, limits: Limits, *, restarted_at: float | None = None) -> None:
        self.limits = limits
        self._hosts: dict[str, _Host] = {}
        self._told: Counter[str] = Counter()
        self._strict_until = -math.inf if restarted_at is None else restarted_at + GRACE_S

    def sync(self, member: str, usage: dict[str, Usage], tally: Counter[str], now: float) -> dict[str, Lease]:
        """Take a worker's news of the hosts it has to do with, and lend it places there.

        Places at hosts it no longer names are taken back. `tally` counts for `told` what it likes. `now` is in seconds
        by any clock that does not go backwards.
        """
        self._told.update(tally)
        leases = {}
        for name, news in usage.items():
            host = self._hosts.setdefault(name, _Host(self.limits.of(name)))
            leases[name] = host.sync(member, news, now, strict=now < self._strict_until)
        for name, host in self._hosts.items():
            if name not in usage:
                host.members.pop(member, None)
        return leases

    def told(self) -> Counter[str]:
        """The sum of what workers counted."""
        return Counter(self._told)

    def states(self) -> list[HostState]:
        """How it goes with each host."""
        return [host.state(name) for name, host in self._hosts.items()]


@dataclass
class _Member:
    places: int = 0
    holds: int = 0  # by its own word; a smaller lease has not reached it before it says so
    running: int = 0
    waiting: int = 0
    seen: float = 0.0
    since: float = 0.0  # when it got its places


class _Host:
    def __init__(self, limit: HostLimit) -> None:
        self.limit = limit
        self.members: dict[str, _Member] = {}
        self.share, self.recovered_at, self.cut_at = 1.0, 0.0, -math.inf
        self.paused_until = self.closed_until = -math.inf
        self.closed = ""
        self.unreachable, self.dead_for_s = 0, DEAD_FOR_S
        self.total = Usage()

    def sync(self, name: str, news: Usage, now: float, *, strict: bool) -> Lease:
        self.members = {n: m for n, m in self.members.items() if n == name or m.seen > now - MEMBER_EXPIRES_S}
        member = self.members.setdefault(name, _Member(since=now))
        member.running, member.waiting, member.holds, member.seen = news.running, news.waiting, news.places, now
        if strict:  # what it holds from before is all that is known to be safe
            member.places = max(member.places, news.running, news.places)
        self._learn(news, now)
        closed = self._closed(now)
        if closed:
            member.places = 0
            return Lease(0, 0.0, closed=closed)
        places = self._places()
        self._lend(member, places, now, strict)
        # A place never carries more than its part of the full rate: so no mix of older and newer leases exceeds it.
        rate = self.limit.per_second * min(1 / self.limit.concurrent, self.share / places)
        return Lease(member.places, rate * member.places, pause_s=max(0.0, self.paused_until - now))

    def _lend(self, member: _Member, places: int, now: float, strict: bool) -> None:
        """Give a worker its part; nobody is without for ever, and all together never have more than there is."""
        others = [m for m in self.members.values() if m is not member]
        hungry = [m for m in others if m.waiting and not m.places and not m.running]
        wanting = 1 + sum(m.running + m.waiting > 0 for m in others)
        held = member.places
        # A lease that was made smaller counts in full until it has arrived and the requests beyond it have ended.
        free = places - sum(max(m.places, m.running, m.holds) for m in others)
        if not held:  # those who have been without for longer go before
            free -= sum(m.since < member.since for m in hungry)
        fair = max(1, places // wanting) if hungry else math.ceil(places / wanting)
        granted = max(0, min(fair, free, held if strict else places))
        if held and hungry and wanting > places and now > member.since + TENURE_S:
            granted = 0
        if bool(granted) != bool(held):
            member.since = now
        member.places = granted

    def _learn(self, news: Usage, now: float) -> None:
        """Take what the host answered for what it is: well, busy, or dead."""
        total = self.total
        total.answered += news.answered
        total.num_bytes += news.num_bytes
        total.seconds += news.seconds
        if news.answered:
            self.unreachable, self.dead_for_s = 0, DEAD_FOR_S
        self.unreachable += news.unreachable
        self.share = min(1.0, self.share + max(0.0, now - self.recovered_at) / RECOVERY_S)
        self.recovered_at = max(self.recovered_at, now)
        if news.statuses and now >= self.cut_at + CUT_EVERY_S:
            self.share = max(MIN_SHARE, self.share * min(CUT[status] for status in news.statuses))
            self.cut_at = now
        if news.retry_after_s > MAX_PAUSE_S:
            self._close(TOO_MANY_REQUESTS, now + news.retry_after_s)
        elif news.retry_after_s:
            self.paused_until = max(self.paused_until, now + news.retry_after_s)
            self.recovered_at = max(self.recovered_at, self.paused_until)  # it cannot recover while it is not asked
        if self.unreachable >= DEAD_AFTER and news.unreachable and not self._closed(now):
            self._close(HOST_UNREACHABLE, now + self.dead_for_s)
            self.dead_for_s = min(2 * self.dead_for_s, DEAD_FOR_MAX_S)

    def _close(self, reason: str, until: float) -> None:
        self.closed, self.closed_until = reason, max(self.closed_until, until)
        self.recovered_at = max(self.recovered_at, self.closed_until)

    def _closed(self, now: float) -> str:
        if now >= self.closed_until:
            self.closed = ""
        return self.closed

    def _places(self) -> int:
        """How many requests at a time the host gets; one is tried when it was dead."""
        return 1 if self.unreachable >= DEAD_AFTER else max(1, round(self.limit.concurrent * self.share))

    def state(self, name: str) -> HostState:
        members, total, limit = self.members.values(), self.total, self.limit
        capacity = limit.per_second * self.share
        if total.seconds:
            capacity = min(capacity, limit.concurrent * self.share * total.answered / total.seconds)
        return HostState(
            host=name,
            running=sum(m.running for m in members),
            waiting=sum(m.waiting for m in members),
            answered=total.answered,
            num_bytes=total.num_bytes,
            seconds=total.seconds,
            share=self.share,
            capacity=capacity,
            closed=self.closed,
        )
