"""The stage as a whole, against a web server, from a manifest written by hand.

Ray needs seconds for each run, so what does not depend on it is tested with the batches run here, one after the other.
"""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from aitax_ray.errors import DataError, MissingArtifactError, SettingsError, StorageError
from aitax_ray.images import distributed, shards
from aitax_ray.images import download as stage
from aitax_ray.images.batch import BatchDownloader
from aitax_ray.images.decode import MAX_ELONGATION
from aitax_ray.images.download import download
from aitax_ray.images.ledger import Plan
from aitax_ray.images.limits import HostState, Limits
from aitax_ray.images.settings import DownloadSettings
from aitax_ray.images.turns import sync_alone
from aitax_ray.schemas import IMAGES, LEDGER, MEDIA, image_id
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row
from tests.web import Web, photo

DRIVER = """
import sys
from tests.images.test_download import settings
from aitax_ray.images.download import download
from tests.blank import blank_row
download(settings(sys.argv[1], read_timeout_s=60, num_actors=1))
"""


class ManifestSettings(StageSettings):
    photos: str = ""


def write_manifest(root: Path, urls: list[str], photos: str = "") -> None:
    ids = sorted((image_id(url), url) for url in urls)
    rows = [
        blank_row(MEDIA, image_id=key, url=url, gbif_id=f"g{n}", species_key=f"s{n % 3}")
        for n, (key, url) in enumerate(ids)
    ]

    def work() -> Outcome:
        for part, half in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
            Storage(str(root)).write_table(
                f"manifest/media/part-{part:05d}.parquet", pa.Table.from_pylist(half, schema=MEDIA)
            )
        return Outcome()

    Workspace(str(root)).run("manifest", ManifestSettings(root=str(root), photos=photos, force=True), (), work)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch_here(
        given: DownloadSettings,
        storage: Storage,
        photos: str,
        run: str,
        plan: Plan,
        limits: Limits,
        patience_s: float | None,
    ) -> list[HostState]:
        async def work() -> None:
            settings = distributed.batch_settings(given, run, 1, patience_s)
            downloader = BatchDownloader(
                storage, settings, distributed.fetch_settings(given, photos), sync_alone(limits)
            )
            rows = storage.read_table(shards.TODO)
            assert rows.num_rows == plan.total
            (told,) = (await downloader(rows)).to_pylist()
            await downloader.close()
            if told["error"]:
                raise StorageError(told["error"])

        asyncio.run(work())
        return []

    monkeypatch.setattr(stage, "connect", lambda: None)
    monkeypatch.setattr(stage, "fetch_on_ray", fetch_here)


def settings(root: Path | str, **changes: object) -> DownloadSettings:
    fast = {
        "image_size": 64,
        "read_timeout_s": 1.0,
        "attempts": 3,
        "shard_size": 4,
        "allow_private_hosts": True,
        "per_host_rate": 10_000.0,
    }
    return DownloadSettings.model_validate({"root": str(root), **fast, **changes})


def stored(root: Path) -> Counter[str]:
    return Counter(Storage(str(root)).read_table("images", ["url"], IMAGES)["url"].to_pylist())


def fates(root: Path) -> dict[str, str]:
    storage = Storage(str(root))
    rows = sorted(
        storage.read_table("ledger", schema=LEDGER).to_pylist(), key=lambda row: (row["run"], row["fetched_at"])
    )
    return {row["url"]: row["reason"] or row["status"] for row in rows if row["status"] != "retried"}


@pytest.mark.usefixtures("ray_session")
def test_every_url_has_a_fate_and_every_good_one_its_photograph(web: Web, tmp_path: Path) -> None:
    expected = {
        **{web.url(f"/slow/0.05/{n}"): "ok" for n in range(24)},
        web.url("/kind/png/p"): "ok",
        web.url("/kind/cmyk/p"): "ok",
        web.url("/flaky/f"): "ok",
        web.url("/again/f"): "ok",
        web.url("/status/404/a"): "not_found",
        web.url("/status/500/a"): "server_error",
        web.url("/hang/a"): "timeout",
        web.url("/html/a"): "html",
        web.url("/truncated/a"): "truncated",
        web.url("/to/http://169.254.169.254/"): "private_address",
        "no url": "bad_url",
    }
    write_manifest(tmp_path, list(expected))
    report = download(settings(tmp_path, per_host=4, num_actors=2))
    assert fates(tmp_path) == expected
    good = {url for url, fate in expected.items() if fate == "ok"}
    assert stored(tmp_path) == Counter(good)
    assert {k: v for k, v in report.counts.items() if k != "bytes"} == {"urls": 35, "ok": 28, "failed": 7}
    assert report.reasons == Counter(fate for fate in expected.values() if fate != "ok")
    for row in Storage(str(tmp_path)).read_table("images").to_pylist():
        assert row["image_id"] == image_id(row["url"])
        assert (row["width"], row["height"]) == (85, 64)
    assert web.peak <= 4  # over both actors together
    digest = Workspace(str(tmp_path)).digest("download")
    assert not list((tmp_path / "ledger").glob(".todo*"))

    # What can never pass is not asked for again.
    asked = Counter(web.requests)
    again = download(settings(tmp_path, concurrency=2))
    assert again.reasons == report.reasons
    assert {path for path in asked if web.requests[path] > asked[path]} == {"/status/500/a", "/hang/a"}
    assert Workspace(str(tmp_path)).digest("download") == digest


@pytest.mark.usefixtures("without_ray")
def test_a_newer_manifest_costs_only_what_is_new(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(12)]
    write_manifest(tmp_path, [*urls[:8], web.url("/status/404/gone")])
    download(settings(tmp_path))
    write_manifest(tmp_path, urls[3:])
    report = download(settings(tmp_path))
    assert (report.counts["urls"], report.counts["ok"], report.counts["vanished"]) == (9, 9, 3)
    assert not report.reasons
    assert set(web.requests.values()) == {1}
    # What vanished is marked and kept, and comes back without being fetched.
    assert stored(tmp_path) == Counter(urls)
    assert {url for url, fate in fates(tmp_path).items() if fate == "vanished"} == set(urls[:3])
    write_manifest(tmp_path, urls[2:])
    report = download(settings(tmp_path))
    assert (report.counts["urls"], report.counts["ok"], report.counts["vanished"]) == (10, 10, 2)
    assert set(web.requests.values()) == {1}
    assert fates(tmp_path)[urls[2]] == "ok"


@pytest.mark.usefixtures("without_ray")
def test_what_vanished_is_deleted_when_asked_to(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(6)]
    write_manifest(tmp_path, urls)
    download(settings(tmp_path))
    write_manifest(tmp_path, urls[2:])
    assert download(settings(tmp_path)).counts["vanished"] == 2
    report = download(settings(tmp_path, prune=True))
    assert "vanished" not in report.counts
    assert stored(tmp_path) == Counter(urls[2:])
    assert {url for url, fate in fates(tmp_path).items() if fate == "pruned"} == set(urls[:2])
    write_manifest(tmp_path, urls)
    download(settings(tmp_path))
    assert stored(tmp_path) == Counter(urls)
    assert sorted(web.requests.values()) == [1, 1, 1, 1, 2, 2]


@pytest.mark.usefixtures("without_ray")
def test_what_may_have_passed_is_tried_again_and_the_rest_when_asked_to(web: Web, tmp_path: Path) -> None:
    flaky, gone, good = web.url("/flaky/a"), web.url("/status/404/a"), web.url("/photo/a")
    write_manifest(tmp_path, [flaky, gone, good])
    assert download(settings(tmp_path, attempts=1)).reasons == {"server_error": 1, "not_found": 1}
    assert download(settings(tmp_path, attempts=4)).reasons == {"not_found": 1}
    assert fates(tmp_path) == {flaky: "ok", gone: "not_found", good: "ok"}
    assert (web.requests["/photo/a"], web.requests["/status/404/a"]) == (1, 1)
    report = download(settings(tmp_path))
    assert download(settings(tmp_path)) == report
    download(settings(tmp_path, retry_failed=True))
    assert (web.requests["/photo/a"], web.requests["/status/404/a"]) == (1, 2)
    assert stored(tmp_path) == Counter([flaky, good])


@pytest.mark.usefixtures("without_ray")
def test_what_a_killed_run_was_asked_to_try_again_the_next_one_tries(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path, [web.url("/photo/a"), web.url("/robots/noai/a")])
    assert download(settings(tmp_path)).reasons == {"no_ai": 1}

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "fetch_on_ray", die)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                download(settings(tmp_path, respect_robots=False))
    assert download(settings(tmp_path, respect_robots=False)).reasons == {}
    assert web.requests["/photo/a"] == 1


LOSSES: dict[str, Callable[[Path], object]] = {
    "a file of photographs": lambda root: next((root / "images").glob("*.parquet")).unlink(),
    "half a file of photographs": lambda root: os.truncate(next((root / "images").glob("*.parquet")), 700),
    "an empty file of photographs": lambda root: next((root / "images").glob("*.parquet")).write_bytes(b""),
}


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_complete_download_notices_lost_photographs_and_fetches_them(web: Web, tmp_path: Path, loss: str) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(12)]
    write_manifest(tmp_path, urls)
    assert download(settings(tmp_path)).counts["ok"] == 12
    LOSSES[loss](tmp_path)
    report = download(settings(tmp_path))
    assert report.counts["ok"] == 12
    assert stored(tmp_path) == Counter(urls)
    assert sorted(web.requests.values()) == [1] * 8 + [2] * 4
    assert download(settings(tmp_path)) == report


@pytest.mark.usefixtures("without_ray")
def test_photographs_that_are_lost_for_good_are_counted_as_lost(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    originals = [folder / f"{number}.jpg" for number in range(12)]
    for path in originals:
        path.write_bytes(photo("jpeg", path.name))
    write_manifest(tmp_path, [path.as_uri() for path in originals], photos=str(folder))
    download(settings(tmp_path))
    LOSSES["a file of photographs"](tmp_path)
    for path in originals:
        path.unlink()
    report = download(settings(tmp_path))
    assert (report.counts["ok"], report.counts["failed"]) == (8, 4)
    assert report.reasons == {"not_found": 4}
    assert stored(tmp_path).total() == 8


@pytest.mark.usefixtures("without_ray")
def test_without_its_ledger_a_download_keeps_all_photographs(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(12)]
    write_manifest(tmp_path, urls)
    download(settings(tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "images").glob("*.parquet")}
    shutil.rmtree(tmp_path / "ledger")
    with pytest.raises(SettingsError, match="--image-size 64"):
        download(settings(tmp_path, image_size=32))
    assert download(settings(tmp_path)).counts["ok"] == 12
    assert {path: path.read_bytes() for path in (tmp_path / "images").glob("*.parquet")} == before
    assert set(web.requests.values()) == {1}
    assert "12 photographs were in images/ and not in the ledger" in caplog.text


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("kept", ["images/*.parquet", "ledger/*", "*/*.parquet"])
def test_what_was_copied_without_its_report_is_continued(web: Web, tmp_path: Path, kept: str) -> None:
    write_manifest(tmp_path, [web.url(f"/photo/{n}") for n in range(4)])
    download(settings(tmp_path))
    for path in {*tmp_path.glob("images/*"), *tmp_path.glob("ledger/*")} - {*tmp_path.glob(kept)}:
        path.unlink()
    assert download(settings(tmp_path)).counts["ok"] == 4
    assert set(web.requests.values()) == {2 if kept == "ledger/*" else 1}


@pytest.mark.usefixtures("without_ray")
def test_files_of_somebody_else_are_not_taken_for_photographs(tmp_path: Path) -> None:
    write_manifest(tmp_path, ["http://127.0.0.1/a"])
    Storage(str(tmp_path)).write_table("images/mine.parquet", pa.table({"image_id": ["a"]}))
    with pytest.raises(StorageError, match="did not make"):
        download(settings(tmp_path))
    assert (tmp_path / "images" / "mine.parquet").exists()


@pytest.mark.usefixtures("without_ray")
def test_own_photographs_that_a_worker_did_not_find_are_looked_for_again(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    here, elsewhere = folder / "a.jpg", folder / "b.jpg"
    here.write_bytes(photo("jpeg"))
    write_manifest(tmp_path, [here.as_uri(), elsewhere.as_uri()], photos=str(folder))
    assert download(settings(tmp_path)).reasons == {"not_found": 1}
    elsewhere.write_bytes(photo("jpeg", "b"))
    assert download(settings(tmp_path)).reasons == {}
    assert stored(tmp_path) == Counter([here.as_uri(), elsewhere.as_uri()])


@pytest.mark.usefixtures("without_ray")
def test_without_the_folder_of_photographs_a_worker_ends_the_run(tmp_path: Path) -> None:
    """It does not write `not_found` for each of them."""
    folder = tmp_path / "photos"
    write_manifest(tmp_path, [(folder / "a.jpg").as_uri()], photos=str(folder))
    with pytest.raises(StorageError, match=f"the folder of photographs {folder} is not on the node"):
        download(settings(tmp_path))
    assert fates(tmp_path) == {}


@pytest.mark.usefixtures("without_ray")
def test_private_hosts_need_leave_and_get_it_later(web: Web, tmp_path: Path) -> None:
    write_manifest(tmp_path, [web.url("/photo/a"), web.url("/photo/b")])
    with pytest.raises(DataError, match=r"2 private_address.*--allow-private-hosts"):
        download(settings(tmp_path, allow_private_hosts=False))
    assert not web.requests
    assert download(settings(tmp_path)).counts["ok"] == 2


@pytest.mark.usefixtures("without_ray")
def test_another_size_is_refused_unless_all_is_fetched_again(web: Web, tmp_path: Path) -> None:
    write_manifest(tmp_path, [web.url("/photo/a")])
    report = download(settings(tmp_path))
    with pytest.raises(SettingsError, match=r"--image-size 64.*--force"):
        download(settings(tmp_path, image_size=32))
    assert Workspace(str(tmp_path)).report("download") == report
    download(settings(tmp_path, image_size=32, force=True))
    assert Storage(str(tmp_path)).read_table("images")["height"].to_pylist() == [32]
    assert web.requests["/photo/a"] == 2


@pytest.mark.usefixtures("without_ray")
def test_a_folder_of_photographs_is_read_where_it_lies(web: Web, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a b.jpg").write_bytes(photo("jpeg"))
    write_manifest(tmp_path, [(folder / "a b.jpg").as_uri(), "file:///etc/passwd"], photos=str(folder))
    download(settings(tmp_path))
    assert fates(tmp_path) == {(folder / "a b.jpg").as_uri(): "ok", "file:///etc/passwd": "bad_url"}


def test_only_the_size_decides_what_comes_out() -> None:
    assert settings("root").result_fields() == {"image_size": 64}


def test_a_missing_manifest_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match="aitax manifest"):
        download(settings(tmp_path))


@pytest.mark.usefixtures("ray_session")
def test_killed_at_any_moment_the_same_command_goes_on(web: Web, tmp_path: Path) -> None:
    """Each driver is killed, and its Ray with it, when it got so many answers; the last one may finish."""
    urls = [web.url(path) for path in [*(f"/slow/0.02/{n}" for n in range(60)), "/status/404/a"]]
    write_manifest(tmp_path, urls)
    done: set[str] = set()
    moments = random.Random(4).sample(range(4, 20), 2)
    for moment in moments:
        before = Counter(web.requests)
        web.hold_after(moment)
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # Some more are asked for and get no answer.
            end = before.total() + moment
            assert web.wait_until(
                lambda w, end=end: w.requests.total() > end and w.now == w.requests.total() - end, 180
            )
            # Of what was answered all full shards are on storage: the others are lost with the driver.
            while len(fates(tmp_path)) < len(done) + moment // 4 * 4:
                assert driver.poll() is None
        finally:
            driver.kill()
            driver.wait()
        assert web.wait_until(lambda w: w.now == 0, 30), "the actors of a killed run go on"
        assert all(web.requests[url.removeprefix(web.url(""))] == before[url.removeprefix(web.url(""))] for url in done)
        done |= {url for url, fate in fates(tmp_path).items() if fate in ("ok", "not_found")}
        assert Workspace(str(tmp_path)).report("download") is None
    assert sum(moments) - 2 * 3 <= len(done) < 61
    web.release()
    report = download(settings(tmp_path, num_actors=1))
    assert stored(tmp_path) == Counter(urls[:-1])
    assert report.counts["ok"] == 60
    assert report.reasons == {"not_found": 1}
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".started.json"]


def test_the_help_tells_what_becomes_of_panoramas() -> None:
    told = str(DownloadSettings.model_fields["image_size"].description)
    assert f"the longer at most {MAX_ELONGATION} times that" in told
