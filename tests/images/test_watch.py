from collections import Counter

import pytest

from aitax_ray.images.limits import HostState
from aitax_ray.images.watch import SHOWN, WINDOW, Watch


def state(host: str, **changes: object) -> HostState:
    known = {"running": 0, "waiting": 0, "answered": 0, "num_bytes": 0, "seconds": 0.0, "share": 1.0}
    return HostState(host=host, **{**known, "capacity": 10.0, "closed": "", **changes})  # type: ignore[arg-type]


def test_the_words_tell_speed_fates_and_what_is_left() -> None:
    watch = Watch({"a": 100}, now=0.0)
    told = Counter({"ok": 20, "timeout": 3, "not_found": 2, "bytes": 40_000_000})
    more, words = watch.look(told, [state("a", answered=25, capacity=100.0)], now=10.0)
    assert more == 25
    assert words == "2.0 images/s, 4.0 MB/s, 20 ok, 3 timeout, 2 not_found; 0:00:38 left"
    more, words = watch.look(told, [state("a", answered=25, capacity=100.0)], now=20.0)
    assert more == 0
    assert words.startswith("1.0 images/s, 2.0 MB/s, 20 ok")


def test_only_the_most_frequent_reasons_are_named() -> None:
    told = Counter({"ok": 1, **{f"reason_{n}": 10 - n for n in range(6)}})
    _, words = Watch({"a": 100}, now=0.0).look(told, [], now=1.0)
    assert "10 reason_0, 9 reason_1, 8 reason_2, 3 other reasons" in words
    assert "reason_3" not in words


def test_the_host_that_all_wait_for_is_named_and_decides_how_long_it_takes() -> None:
    watch = Watch({"fast": 50, "slow": 1000}, now=0.0)
    states = [state("fast", answered=49), state("slow", answered=1, capacity=0.5, share=0.5)]
    _, words = watch.look(Counter({"ok": 50}), states, now=5.0)
    assert "waiting for slow, at most 0.5/s, slowed down to 50 %" in words
    assert words.endswith("0:33:18 left")  # 999 at 0.5/s
    assert "fast" not in words


def test_a_host_that_is_not_asked_is_named_with_its_reason() -> None:
    _, words = Watch({"dead": 9}, now=0.0).look(Counter(), [state("dead", closed="host_unreachable")], now=1.0)
    assert "dead is not asked (host_unreachable)" in words


def test_at_the_end_nothing_is_left() -> None:
    _, words = Watch({"a": 2}, now=0.0).look(Counter({"ok": 2}), [state("a", waiting=1)], now=1.0)
    assert words == "2.0 images/s, 0.0 MB/s, 2 ok"


@pytest.mark.parametrize(("stored", "more"), [(0, 3), (3, 3), (7, 7)])
def test_what_is_on_storage_is_done_even_if_no_worker_told_of_it(stored: int, more: int) -> None:
    watch = Watch({"a": 9}, now=0.0)
    watch.stored = stored
    assert watch.look(Counter({"ok": 3}), [], now=1.0)[0] == more


def test_the_speed_is_that_of_the_last_looks() -> None:
    watch = Watch({"a": 10_000}, now=0.0)
    for second in range(1, 2 * WINDOW):  # a hundred a second at first, then two
        ok = 100 * min(second, WINDOW) + 2 * max(0, second - WINDOW)
        _, words = watch.look(Counter(ok=ok), [], now=float(second))
    assert words.startswith("2.0 images/s")


def test_of_many_slow_or_closed_hosts_only_some_are_named() -> None:
    slow = [state(f"slow{n}", waiting=100, capacity=0.1 * (n + 1)) for n in range(5)]
    closed = [state(f"closed{n}", closed="host_unreachable") for n in range(5)]
    urls = {each.host: 100 for each in slow + closed}
    _, words = Watch(urls, now=0.0).look(Counter(ok=100), slow + closed, now=1.0)
    assert (words.count("waiting for"), words.count("is not asked")) == (SHOWN, SHOWN)
    assert words.index("slow0") < words.index("slow1")  # the slowest first


def test_how_long_it_takes_is_not_told_when_nobody_knows() -> None:
    _, words = Watch({"a": 9}, now=0.0).look(Counter(), [state("a", waiting=9, capacity=0.0)], now=1.0)
    assert "left" not in words


def test_when_more_is_told_than_there_was_nothing_is_left() -> None:
    _, words = Watch({"a": 2, "b": 1}, now=0.0).look(Counter(ok=4), [state("a", waiting=2, capacity=1.0)], now=1.0)
    assert words == "4.0 images/s, 0.0 MB/s, 4 ok"


def test_progress_does_not_go_back_when_the_count_begins_anew() -> None:
    watch = Watch({"a": 9}, now=0.0)
    assert watch.look(Counter(ok=5), [], now=1.0)[0] == 5
    assert watch.look(Counter(ok=1), [], now=2.0)[0] == 0
    assert watch.look(Counter(ok=7), [], now=3.0)[0] == 2
