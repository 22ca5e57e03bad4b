"""What is planned, marked and deleted, for ledgers written by hand. A photograph's URL is a letter where it does not
matter; `r1`, `r2`, ... are runs, one after the other.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from yarl import URL

from aitax_ray import takedowns
from aitax_ray.database import MEMORY_FOR_JOINS, open_database
from aitax_ray.images import ledger as module
from aitax_ray.images import shards
from aitax_ray.images.ledger import new_run, read_ledger
from aitax_ray.images.limits import HostLimit, Limits
from aitax_ray.schemas import IMAGES, LEDGER, MEDIA, image_id
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Request
from aitax_ray.workspace import Outcome
from tests.blank import blank_row

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(HostLimit(8, 10.0))
SIZE = 64


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def list_media(storage: Storage, urls: Iterable[str]) -> None:
    """Write a manifest in two files."""
    ids = sorted((image_id(url), url) for url in urls)
    rows = [blank_row(MEDIA, image_id=key, url=url, gbif_id="g", species_key="s") for key, url in ids]
    storage.delete("manifest")
    for part, some in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
        storage.write_table(f"manifest/media/part-{part:05d}.parquet", pa.Table.from_pylist(some, MEDIA))


def fate(url: str, status: str, run: str = "r1", reason: str = "", shard: str = "", at: float = 0) -> dict[str, Any]:
    known = {"image_id": image_id(url), "url": url, "run": run, "status": status, "reason": reason, "shard": shard}
    return blank_row(LEDGER, **known, num_bytes=5, sha256=f"of {url}", fetched_at=START + timedelta(seconds=at))


def write_rows(storage: Storage, name: str, *rows: dict[str, Any]) -> None:
    shards.write_fates(storage, name, pa.Table.from_pylist(rows, LEDGER), SIZE)


def store(
    storage: Storage, name: str, ok: Iterable[str] = "", failed: Iterable[str] = "", reason: str = "timeout"
) -> None:
    """Write a pair of files as a worker does, named after its run: `r1-...`."""
    run = name.partition("-")[0]
    photographs = [blank_row(IMAGES, image_id=image_id(url), url=url, jpeg=b"jpeg") for url in ok]
    rows = [fate(url, "ok", run) for url in ok] + [fate(url, "failed", run, reason) for url in failed]
    shards.write_shard(
        storage, name, pa.Table.from_pylist(photographs, IMAGES), pa.Table.from_pylist(rows, LEDGER), SIZE
    )


def planned(
    storage: Storage,
    run: str = "r9",
    retry: frozenset[str] | None = frozenset({"timeout"}),
    limits: Limits = LIMITS,
    measured: dict[str, float] | None = None,
) -> list[str]:
    """The URLs that are left to do, in their order."""
    with read_ledger(storage) as ledger:
        plan = ledger.plan(run, retry, limits, measured)
    rows = storage.read_table(shards.TODO, schema=shards.TODO_SCHEMA)
    assert rows.schema.equals(shards.TODO_SCHEMA)
    assert rows["image_id"].to_pylist() == [image_id(url) for url in rows["url"].to_pylist()]
    assert plan.total == rows.num_rows
    return list(rows["url"].to_pylist())


def outcome(storage: Storage) -> Outcome:
    with read_ledger(storage) as ledger:
        return ledger.outcome()


def stored(storage: Storage) -> list[str]:
    return sorted(storage.read_table("images", ["url"], IMAGES)["url"].to_pylist())


def told(storage: Storage) -> Counter[tuple[str, ...]]:
    """All rows, but for when they were made."""
    rows = storage.read_table("ledger", schema=LEDGER).to_pylist()
    return Counter((row["url"], row["status"], row["reason"], row["shard"]) for row in rows)


def rows_of(storage: Storage) -> list[dict[str, Any]]:
    """All rows of the ledger, in one order."""
    rows = storage.read_table("ledger", schema=LEDGER).to_pylist()
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def statuses(storage: Storage, url: str) -> list[str]:
    rows = [row for row in storage.read_table("ledger", schema=LEDGER).to_pylist() if row["url"] == url]
    return [row["status"] for row in sorted(rows, key=lambda row: (row["run"], row["fetched_at"]))]


def test_what_has_no_fate_is_left_to_do_and_nothing_else(storage: Storage) -> None:
    """Every combination of a status, a reason, this run or another, and a file that is there or not."""
    runs, files = {"this": "r5", "earlier": "r4"}, {"there": "there.parquet", "gone": "gone.parquet", "none": ""}
    rows = {"new": None, "only retried": fate("only retried", "retried", "r5", "timeout", at=99)}
    for status, reason, run, file in itertools.product(
        ("ok", "failed", "vanished", "pruned"), ("timeout", "not_found"), runs, files
    ):
        url = f"{status} {reason} {run} {file}"
        rows[url] = fate(url, status, runs[run], reason, files[file])
    for url in list(rows):  # an attempt that another followed says nothing, whenever it was
        if rows[url] is not None and url != "only retried":
            rows[f"{url} retried"] = rows[url] | {"url": f"{url} retried", "image_id": image_id(f"{url} retried")}
    retried = [fate(url, "retried", "r5", "not_found", at=99) for url in rows if url.endswith(" retried")]
    storage.write_table("images/there.parquet", IMAGES.empty_table())
    write_rows(storage, "r4-w-0", *[row for row in rows.values() if row is not None], *retried)
    list_media(storage, rows)

    def is_left(url: str, retry: frozenset[str] | None) -> bool:
        if url in ("new", "only retried"):
            return True
        status, reason, run, file = url.split()[:4]
        if status == "failed":
            return run == "earlier" and (retry is None or reason in retry)
        return status == "pruned" or file != "there"

    for retry in (None, frozenset(), frozenset({"timeout"}), frozenset({"timeout", "not_found"}), frozenset({"it's"})):
        assert sorted(planned(storage, "r5", retry)) == sorted(url for url in rows if is_left(url, retry))


def test_only_what_the_manifest_lists_is_left_to_do(storage: Storage) -> None:
    store(storage, "r1-w-0", failed="ab")
    list_media(storage, "bc")
    assert set(planned(storage)) == {"b", "c"}


def test_what_its_author_withdrew_is_not_fetched(storage: Storage) -> None:
    list_media(storage, "abc")
    store(storage, "r1-w-0", failed="a", reason="timeout")
    request = Request(kind="url", value="https://x.org/a", requested=START, image_ids=[image_id("a"), image_id("b")])
    takedowns.write_request(storage, request)
    assert planned(storage) == ["c"]
    takedowns.write_request(storage, request.model_copy(update={"restored": START}))
    assert set(planned(storage)) == {"a", "b", "c"}


def test_what_is_left_to_do_takes_the_place_of_what_was(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TODO_ROWS", 2)
    list_media(storage, "abcdefg")
    assert set(planned(storage)) == set("abcdefg")
    assert all(table.num_rows <= 2 for table in map(storage.read_table, [f.path for f in storage.files(shards.TODO)]))
    store(storage, "r9-w-0", ok="abcde")
    assert set(planned(storage)) == {"f", "g"}


@pytest.mark.parametrize("names", list(itertools.permutations(["1", "2", "3", "4"]))[::5])
def test_the_last_run_decides_whatever_the_order_of_files_and_the_clocks(
    storage: Storage, names: tuple[str, ...]
) -> None:
    list_media(storage, "abc")
    storage.write_table("images/there.parquet", IMAGES.empty_table())
    rows = [
        [fate("a", "failed", "r1", "gone", at=900), fate("b", "ok", "r1", shard="gone.parquet", at=900)],
        [fate("a", "failed", "r2", "timeout", at=5), fate("b", "failed", "r2", "timeout", at=5)],
        [fate("a", "ok", "r3", shard="there.parquet", at=-900), fate("b", "failed", "r3", "gone", at=-900)],
        [fate("a", "retried", "r4", "timeout", at=990), fate("b", "retried", "r4", "timeout", at=990)],
    ]
    for name, some in zip(names, rows, strict=True):
        write_rows(storage, name, *some)
    assert planned(storage, "r5") == ["c"]
    assert outcome(storage) == Outcome(counts={"urls": 2, "ok": 1, "failed": 1, "bytes": 5}, reasons={"gone": 1})


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_within_a_run_the_later_row_decides(storage: Storage, names: str) -> None:
    list_media(storage, "x")
    write_rows(storage, names[0], fate("x", "failed", "r1", "timeout", at=1))
    write_rows(storage, names[1], fate("x", "failed", "r1", "gone", at=2))
    assert outcome(storage).reasons == {"gone": 1}


hosts = st.dictionaries(
    st.sampled_from([f"h{number}.example" for number in range(5)]),
    st.tuples(st.integers(0, 60), st.sampled_from([None, 0.1, 1 / 3, 1.0, 7.0, 10.0, 200.0]), st.booleans()),
    min_size=1,
)


def test_what_a_run_stored_stays_stored_whatever_it_met_later(storage: Storage) -> None:
    """As when a worker was lost after it stored, and another got the same batch."""
    write_rows(storage, "r1-w-0", fate("a", "ok", "r1", shard="there.parquet", at=1))
    write_rows(storage, "r1-v-0", fate("a", "failed", "r1", "timeout", at=2))
    storage.write_table("images/there.parquet", IMAGES.empty_table())
    list_media(storage, "a")
    assert planned(storage) == []
    write_rows(storage, "r2-w-0", fate("a", "failed", "r2", "timeout", at=3))
    assert planned(storage) == ["a"]


@given(hosts=hosts)
@hypothesis_settings(max_examples=10)
def test_any_stretch_from_the_start_asks_hosts_in_proportion_to_what_they_can_give(
    hosts: dict[str, tuple[int, float | None, bool]],
) -> None:
    urls = [f"https://{host}/{number}" for host, (size, _, _) in hosts.items() for number in range(size)]
    given_rates = {host: rate for host, (_, rate, _) in hosts.items() if rate is not None}
    measured = {host: rate for host, rate in given_rates.items() if hosts[host][2]}
    overrides = {host: HostLimit(1, rate) for host, rate in given_rates.items() if host not in measured}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TODO_ROWS", 16)
        storage = Storage(folder)
        list_media(storage, urls)
        found = planned(storage, limits=Limits(HostLimit(8, 5.0), overrides), measured=measured)
    assert sorted(found) == sorted(urls)
    done = dict.fromkeys(hosts, 0)
    for url in found:
        host = URL(url).host or ""
        done[host] += 1
        due = done[host] / given_rates.get(host, 5.0)
        for other, number in done.items():
            rate = given_rates.get(other, 5.0)
            assert number / rate <= due * (1 + 1e-9)  # nobody is asked before it is due
            assert number == hosts[other][0] or (number + 1) / rate >= due * (1 - 1e-9)  # nor left behind


def test_what_was_measured_counts_more_than_what_is_allowed(storage: Storage) -> None:
    list_media(storage, [f"http://{host}/{number}" for host in ("fast", "slow") for number in range(4)])
    limits = Limits(HostLimit(8, 10.0), {"slow": HostLimit(64, 200.0)})

    def order(measured: dict[str, float] | None) -> list[str]:
        return [URL(url).host or "" for url in planned(storage, limits=limits, measured=measured)]

    assert order(None) == ["slow"] * 4 + ["fast"] * 4
    assert order({"slow": 1.0}) == ["fast"] * 4 + ["slow"] * 4
    assert order({"fast": 1000.0}) == ["fast"] * 4 + ["slow"] * 4


def test_any_url_has_some_host_and_is_planned(storage: Storage) -> None:
    hosts = {
        "http://a.example": "a.example",
        "https://a.example/x.jpg": "a.example",
        "HTTP://A.Example/X": "a.example",
        "http://a.example:8080/x": "a.example",
        "http://a.example?x=http://b.example/": "a.example",
        "http://user@a.example/x": "a.example",
        "http://user:pass@a.example:80/x@y": "a.example",
        "http://a.example/x@b.example": "a.example",
        " \t http://a.example/x y ": "a.example",
        "http://10.0.0.1/x": "10.0.0.1",
        "http://münchen.example/x": "münchen.example",
        "http:///x": "",
        "http://": "",
        "//a.example/x": "",
        "a.example/x": "",
        "file:///photos/a%20b.jpg": "",
        "no url": "",
        "it's": "",
        "\0\n": "",
        "": "",
    }
    some_host = ["http://[::1]:80/x", "http://a.example#@b.example", "http://a@b@c.example/", "http://@/"]
    list_media(storage, [*hosts, *some_host])
    with read_ledger(storage) as ledger:
        plan = ledger.plan("r1", None, LIMITS)
    rows = storage.read_table(shards.TODO)["url"].to_pylist()
    assert sorted(rows) == sorted([*hosts, *some_host])
    assert plan.total == sum(plan.urls.values()) == len(rows)
    known, found = Counter(hosts.values()), Counter(plan.urls)
    assert known <= found
    assert (found - known).total() == len(some_host)


def test_fates_are_counted_by_what_decides(storage: Storage) -> None:
    list_media(storage, "abcdefg")
    store(storage, "r1-w-0", ok="ax", failed="bc", reason="timeout")
    store(storage, "r2-w-0", ok="b", failed="c", reason="not_found")
    store(storage, "r2-w-1", failed="defz", reason="gone")
    write_rows(storage, "r2-w-2", *[fate(url, "retried", "r2", "timeout", at=9) for url in "abcdg"])
    found = outcome(storage)
    assert found == Outcome(counts={"urls": 6, "ok": 2, "failed": 4, "bytes": 10}, reasons={"gone": 3, "not_found": 1})
    assert list(found.reasons) == ["gone", "not_found"]  # the most frequent first


def test_the_tables_are_joined_within_the_bound_of_memory(storage: Storage, tmp_path: Path) -> None:
    query = "SELECT current_setting('threads'), current_setting('memory_limit'), current_setting('temp_directory')"
    with open_database(tmp_path / "elsewhere", MEMORY_FOR_JOINS) as database:
        threads, memory, _ = database.execute(query).fetchall()[0]
    with read_ledger(storage) as ledger:
        *found, spill = ledger.database.execute(query).fetchall()[0]
        assert Path(spill).parent.is_dir()
    assert found == [threads, memory]
    assert not Path(spill).parent.exists()


def test_a_ledger_of_many_files_is_read_as_one(storage: Storage) -> None:
    urls = [f"http://h{number % 7}.example/{number}" for number in range(400)]
    list_media(storage, urls)
    for start in range(0, 300, 10):
        store(storage, f"r1-w-{start}", ok=urls[start : start + 9], failed=urls[start + 9 : start + 10])
    assert sorted(planned(storage)) == sorted(urls[300:] + urls[9:300:10])
    assert outcome(storage).counts == {"urls": 300, "ok": 270, "failed": 30, "bytes": 1350}


def test_runs_sort_by_time_and_no_two_have_one_name(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [START + timedelta(seconds=s) for s in (0, 1, 59, 3600, 86400 * 40, 86400 * 400)]
    names = []
    for time in times:
        monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda _, time=time: time))
        names.append(new_run(storage))
    assert names == sorted(names)
    assert len({new_run(storage) for _ in range(50)}) == 50


def test_runs_that_begin_within_a_second_sort_by_time(storage: Storage) -> None:
    names = [new_run(storage) for _ in range(10)]
    assert names == sorted(names)
