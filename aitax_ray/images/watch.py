"""The progress of a download in words: speed, failures, slow hosts, time left."""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from aitax_ray.images.limits import HostState

WINDOW = 30  # the speed is that of the last 30 looks
REASONS_SHOWN = 3
LAGGARD = 2.0  # a host is named if it takes this many times as long as the whole download
ALMOST_ALL = 0.9  # or if it has this share of the URLs that are left
SHOWN = 2  # hosts that are named at most
UNKNOWN_S = 30 * 86400.0


class Watch:
    """Turns counts into words. `urls` is the number of URLs per host at the beginning."""

    def __init__(self, urls: Mapping[str, int], now: float | None = None) -> None:
        self.urls = urls
        self.total = sum(urls.values())
        self.done = 0
        self.stored = 0  # URLs whose fates are on storage; the counts of workers come later, or never
        begin = time.monotonic() if now is None else now
        self._looks: deque[tuple[float, int, int]] = deque([(begin, 0, 0)], maxlen=WINDOW)

    def look(self, counts: Counter[str], states: Sequence[HostState], now: float | None = None) -> tuple[int, str]:
        """Take the counts of all workers ("ok", "bytes" and one per reason) and the states of hosts.

        Returns how many URLs were done since the last look, and a line of text about the progress.
        """
        now = time.monotonic() if now is None else now
        fates = Counter({name: number for name, number in counts.items() if name != "bytes"})
        done = fates.total()
        done = max(done, self.stored, self.done)  # a lender that was restarted counts from nothing
        more, self.done = done - self.done, done
        self._looks.append((now, fates["ok"], counts["bytes"]))
        (then, ok_then, bytes_then), (_, ok, num_bytes) = self._looks[0], self._looks[-1]
        seconds = max(now - then, 1e-9)
        speed = (ok - ok_then) / seconds
        parts = [f"{speed:,.1f} images/s", f"{(num_bytes - bytes_then) / seconds / 1e6:,.1f} MB/s", f"{ok:,} ok"]
        reasons = [f"{number:,} {name}" for name, number in fates.most_common() if name != "ok"]
        if len(reasons) > REASONS_SHOWN:
            reasons[REASONS_SHOWN:] = [f"{len(reasons) - REASONS_SHOWN} other reasons"]
        parts += reasons
        return more, "; ".join([", ".join(parts), *self._rest(states, speed)])

    def _rest(self, states: Sequence[HostState], speed: float) -> list[str]:
        """The hosts that the download waits for, and the time left."""
        left = self.total - self.done
        if left <= 0:
            return []
        all_s = left / speed if speed > 0 else 0.0
        parts = [f"{state.host} is not asked ({state.closed})" for state in states if state.closed][:SHOWN]
        longest_s, slow = all_s, []
        for state in states:
            rest = max(self.urls.get(state.host, 0) - state.answered, state.waiting + state.running)
            if rest <= 0 or state.closed:
                continue
            own_s = min(rest, left) / max(state.capacity, 1e-9)
            longest_s = max(longest_s, own_s)
            if len(self.urls) > 1 and (own_s > LAGGARD * all_s or rest > ALMOST_ALL * left):
                slowed = f", slowed down to {100 * state.share:.0f} %" if state.share < 1 else ""
                slow.append((own_s, f"waiting for {state.host}, at most {state.capacity:,.1f}/s{slowed}"))
        parts += [words for _, words in sorted(slow, reverse=True)[:SHOWN]]
        if 0 < longest_s < UNKNOWN_S:
            parts.append(f"{timedelta(seconds=round(longest_s))} left")
        return parts
