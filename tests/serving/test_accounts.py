"""serving.accounts: quotas and rates, shared, over days and restarts."""

# ruff: noqa: ASYNC240  # nobody else waits for these event loops

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aitax_ray.serving import accounts
from aitax_ray.serving.accounts import PAGE, Accounts
from aitax_ray.serving.keys import add_key, digest, revoke_key

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
HALF_A_DAY_S = 43_200


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


async def statuses(ledger: Accounts, who: str, number: int, cost: int | None = 1) -> list[int]:
    return [(await ledger.ask(who, "", cost)).status for _ in range(number)]


async def test_a_quota_ends_with_the_day(path: Path) -> None:
    who, clock = digest(add_key(path, "ann", per_day=2)), Clock()
    ledger = Accounts(str(path), clock)
    assert await statuses(ledger, who, 3) == [200, 200, 429]
    verdict = await ledger.ask(who, "", 1)
    assert (verdict.name, verdict.count, verdict.per_day, verdict.wait_s) == ("ann", 2, 2, HALF_A_DAY_S)
    clock.now += HALF_A_DAY_S
    assert await statuses(ledger, who, 1) == [200]
    assert await ledger.history(who, 2026) == {"2026-11-28": 2, "2026-11-29": 1}
    assert await ledger.history(who, 2025) == {}


async def test_a_rate_is_of_any_minute(path: Path) -> None:
    who, clock = digest(add_key(path, "ann", per_minute=2)), Clock()
    ledger = Accounts(str(path), clock)
    assert await statuses(ledger, who, 1) == [200]
    clock.now += 50
    assert await statuses(ledger, who, 2) == [200, 429]
    assert (await ledger.ask(who, "", 1)).wait_s == 10
    clock.now += 10
    assert await statuses(ledger, who, 2) == [200, 429]
    assert (await ledger.ask(who, "", 1)).count == 3  # what is refused does not count
    clock.now -= 3600  # it was wrong
    assert await statuses(ledger, who, 3) == [200, 200, 429]
    assert (await ledger.ask(who, "", 1)).wait_s == 60


async def test_what_costs_nothing_counts_for_the_rate_and_a_look_for_nothing(path: Path) -> None:
    who = digest(add_key(path, "ann", per_day=1, per_minute=2))
    ledger = Accounts(str(path), Clock())
    assert await statuses(ledger, who, 1) == [200]
    assert await statuses(ledger, who, 2, cost=0) == [200, 429]
    assert await statuses(ledger, who, 5, cost=None) == [200] * 5
    assert (await ledger.ask(who, "", None)).count == 1


async def test_what_failed_is_given_back_but_not_its_rate(path: Path) -> None:
    who = digest(add_key(path, "unlucky", per_day=2, per_minute=3))
    ledger = Accounts(str(path))
    verdict = await ledger.ask(who, "", 1)
    await ledger.give_back(who, verdict.day, 1)
    await ledger.give_back(who, "2020-01-01", 1)  # of another day
    await ledger.give_back("nobody", verdict.day, 1)
    assert (await ledger.ask(who, "", None)).count == 0
    assert (await Accounts(str(path)).ask(who, "", None)).count == 0
    assert await statuses(ledger, who, 3) == [200, 200, 429]


async def test_counts_outlive_a_restart_and_a_new_key_of_the_same_name(path: Path) -> None:
    who = digest(add_key(path, "ann", per_day=2))
    assert await statuses(Accounts(str(path), Clock()), who, 2) == [200, 200]
    assert await statuses(Accounts(str(path), Clock()), who, 1) == [429]
    revoke_key(path, "ann")
    new = digest(add_key(path, "ann", per_day=2))
    assert await statuses(Accounts(str(path), Clock()), new, 1) == [429]


async def test_counts_that_cannot_be_read_begin_again(path: Path) -> None:
    who = digest(add_key(path, "ann", per_day=1))
    folder = Path(f"{path}.counts")
    folder.mkdir()
    for text in ("{", "[]", '{"ann": "x"}', '{"ann": null}'):
        (folder / "2026-11-28.json").write_text(text)
        assert await statuses(Accounts(str(path), Clock()), who, 2) == [200, 429]


async def test_where_counts_cannot_be_written_quotas_hold_in_memory_and_keys_can_be_revoked(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accounts, "CHECK_S", 0.0)
    who, ben = digest(add_key(path, "ann", per_day=1)), digest(add_key(path, "ben"))
    Path(f"{path}.counts").write_text("a file in the place of the folder")
    ledger = Accounts(str(path), Clock())
    assert await statuses(ledger, who, 2) == [200, 429]
    assert await statuses(ledger, ben, 3) == [200, 200, 200]
    assert caplog.text.count("counts are not kept over a restart") == 1
    revoke_key(path, "ben")
    assert await statuses(ledger, ben, 1) == [401]
    Path(f"{path}.counts").unlink()
    assert await statuses(Accounts(str(path), Clock()), who, 1) == [200]
    ledger = Accounts(path.read_text().strip(), Clock())  # as in AITAX_KEYS
    assert await statuses(ledger, who, 2) == [200, 429]
    assert await ledger.history(who, 2026) == {}


async def test_an_unknown_key_and_another_origin_are_refused_and_count_for_nothing(path: Path) -> None:
    who = digest(add_key(path, "ann", origins=["https://frogs.example"]))
    ledger = Accounts(str(path), Clock())
    asked = [(who[::-1], "https://frogs.example"), ("", ""), ("ann", ""), (PAGE, ""), (who, "https://x.example")]
    assert [(await ledger.ask(*each, 1)).status for each in asked] == [401, 401, 401, 401, 403]
    assert (await ledger.ask(who, "", 1)).status == 403  # programs send no origin
    verdict = await ledger.ask(who, "https://Frogs.example", 1)
    assert (verdict.status, verdict.count) == (200, 1)


async def test_the_page_is_counted_under_the_key_of_its_name(path: Path) -> None:
    who = digest(add_key(path, PAGE, per_day=2))
    ledger = Accounts(str(path), Clock())
    assert [(await ledger.ask(name, "", 1)).status for name in (PAGE, who, PAGE)] == [200, 200, 429]


async def test_new_and_revoked_keys_are_taken_up_without_a_restart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "CHECK_S", 0.0)
    ann = digest(add_key(path, "ann"))
    ledger = Accounts(str(path), Clock())
    ben = digest(add_key(path, "ben"))
    assert await statuses(ledger, ben, 1) == [200]
    revoke_key(path, "ann")
    assert await statuses(ledger, ann, 1) == [401]


async def test_a_file_that_became_unreadable_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accounts, "CHECK_S", 0.0)
    who = digest(add_key(path, "ann"))
    ledger = Accounts(str(path), Clock())
    path.write_text("{}\n")
    assert await statuses(ledger, who, 2) == [200, 200]
    path.unlink()
    assert await statuses(ledger, who, 2) == [200, 200]
    assert len(caplog.records) == 2  # not one a request


def test_a_quota_holds_when_many_ask_at_the_same_time(path: Path) -> None:
    who = digest(add_key(path, "ann", per_day=50))
    ledger = Accounts(str(path), Clock())
    found: list[int] = []
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        found.extend(asyncio.run(statuses(ledger, who, 20)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found.count(200), found.count(429)) == (50, 110)
