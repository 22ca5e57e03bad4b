"""The stage as a whole, against a web server, from a manifest written by hand.

Ray needs seconds for each run, so what does not depend on it is tested with the batches run here, one after the other.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from aitax_ray.errors import DataError, MissingArtifactError, SettingsError
from aitax_ray.images import download as stage
from aitax_ray.images import shards
from aitax_ray.images.batch import BatchDownloader
from aitax_ray.images.decode import MAX_ELONGATION
from aitax_ray.images.download import DownloadSettings, download
from aitax_ray.schemas import IMAGES, MEDIA, image_id
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
download(settings(sys.argv[1], timeout_s=60, num_actors=1))
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
    def run_here(settings: DownloadSettings, storage: Storage, photos: str, todo: int) -> None:
        async def run() -> None:
            downloader = BatchDownloader(storage, settings.image_size, stage._share(settings, photos, 1))
            rows = storage.read_table(shards.TODO)
            assert rows.num_rows == todo
            for start in range(0, todo, settings.shard_size):
                await downloader(rows.slice(start, settings.shard_size))
            await downloader.fetcher.close()

        asyncio.run(run())

    monkeypatch.setattr(stage, "connect", lambda: None)
    monkeypatch.setattr(stage, "_run_on_ray", run_here)


def settings(root: Path | str, **changes: object) -> DownloadSettings:
    fast = {"image_size": 64, "timeout_s": 1.0, "attempts": 3, "shard_size": 4, "allow_private_hosts": True}
    return DownloadSettings.model_validate({"root": str(root), **fast, **changes})


def stored(root: Path) -> Counter[str]:
    return Counter(Storage(str(root)).read_table("images", ["url"], IMAGES)["url"].to_pylist())


def fates(root: Path) -> dict[str, str]:
    storage = Storage(str(root))
    files = [f"ledger/{file.name}" for file in (root / "ledger").glob("*.parquet")]
    rows = [row for file in files for row in storage.read_table(file).to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows)
    return {row["url"]: row["reason"] or row["status"] for row in rows}


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
        web.url("/html/a"): "not_an_image",
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
    assert not list((tmp_path / "ledger").glob(".todo*"))

    asked = Counter(web.requests)
    again = download(settings(tmp_path, concurrency=2))
    assert again == report
    assert web.requests == asked


@pytest.mark.usefixtures("without_ray")
def test_a_changed_manifest_costs_only_what_is_new(web: Web, tmp_path: Path) -> None:
    urls = [web.url(f"/photo/{n}") for n in range(12)]
    write_manifest(tmp_path, [*urls[:8], web.url("/status/404/gone")])
    download(settings(tmp_path))
    write_manifest(tmp_path, urls[3:])
    report = download(settings(tmp_path))
    assert stored(tmp_path) == Counter(urls[3:])
    assert report.counts["urls"] == report.counts["ok"] == 9
    assert not report.reasons
    assert set(web.requests.values()) == {1}


@pytest.mark.usefixtures("without_ray")
def test_what_failed_is_tried_again_only_when_asked_to(web: Web, tmp_path: Path) -> None:
    flaky, gone, good = web.url("/flaky/a"), web.url("/status/404/a"), web.url("/photo/a")
    write_manifest(tmp_path, [flaky, gone, good])
    assert download(settings(tmp_path, attempts=1)).reasons == {"server_error": 1, "not_found": 1}
    download(settings(tmp_path, attempts=4))
    assert web.requests["/flaky/a"] == 1
    report = download(settings(tmp_path, attempts=4, retry_failed=True))
    assert fates(tmp_path) == {flaky: "ok", gone: "not_found", good: "ok"}
    assert stored(tmp_path) == Counter([flaky, good])
    assert report.reasons == {"not_found": 1}
    assert (web.requests["/photo/a"], web.requests["/status/404/a"]) == (1, 1)


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
def test_after_a_kill_the_same_command_goes_on(web: Web, tmp_path: Path) -> None:
    paths = sorted((f"/photo/{n}" for n in range(40)), key=lambda path: image_id(web.url(path)))
    urls = [web.url(path) for path in [*paths, "/status/404/a"]]
    write_manifest(tmp_path, urls)
    held = paths[-6:]
    web.hold(*held)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # All was asked for, and only what is held back is still waited for.
        assert web.wait_until(lambda w: len(w.requests) == len(urls) and w.now == len(held), 180)
        while driver.poll() is None and not list(tmp_path.glob("ledger/*.parquet")):
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
    assert web.wait_until(lambda w: w.now == 0, 30), "the actors of a killed run go on"
    before, asked = fates(tmp_path), Counter(web.requests)
    assert 0 < len(before) < len(urls)
    assert Workspace(str(tmp_path)).report("download") is None

    web.release()
    report = download(settings(tmp_path, num_actors=1))
    assert stored(tmp_path) == Counter(urls[:-1])
    assert report.counts["ok"] == 40
    done = {url.removeprefix(web.url("")) for url in before}
    assert not done & set(held)
    assert all(web.requests[path] == asked[path] == 1 for path in done)


def test_the_help_tells_what_becomes_of_panoramas() -> None:
    told = str(DownloadSettings.model_fields["image_size"].description)
    assert f"the longer at most {MAX_ELONGATION} times that" in told
