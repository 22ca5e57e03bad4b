"""The whole way, through the command line: an archive goes in, an identified photograph comes out."""

import functools
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from aitax_ray import cli, pipeline, workspace
from aitax_ray.demo import demo
from aitax_ray.demo.demo import served_world
from aitax_ray.demo.species import SPECIES
from aitax_ray.demo.world import DOI, build_world, num_photos, unseen_photo
from aitax_ray.errors import SettingsError
from aitax_ray.index.shards import read_rows
from aitax_ray.settings import build_settings
from aitax_ray.storage import Storage
from aitax_ray.workspace import FOLDERS, Workspace
from tests.commands import TIMEOUT_S, Ran, run, running
from tests.guides import ROOT, commands
from tests.private import assert_nothing_private

STAGE_OF = {stage.name: stage for stage in pipeline.STAGES}
WORLD = {"fewest": 12, "most": 40}  # photographs per species
FLOOR = 0.9  # top-1 on the test split of the demo's world

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Built:
    """A root that `aitax demo` has made, and how."""

    root: Path
    address: str  # of the world's GBIF and its photographs
    interrupted: tuple[int, str]  # status and stderr of the first run, on which Ctrl-C was pressed in training
    first: Ran  # to the end

    @property
    def ws(self) -> Workspace:
        return Workspace(str(self.root))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The demo's engine: the one build from download to engine that the tests can afford. Its world is smaller."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "build_world", functools.partial(build_world, **WORLD))
        with served_world(Storage(str(folder / "root"))):  # draws it, and the demo takes what is drawn
            pass
    command = ("demo", "--once", "--root", "root", "--port", "0")
    with running(*command, cwd=folder) as begun:
        begun.wait_for("recipe linear-probe:", TIMEOUT_S)
        interrupted = begun.interrupt(), "".join(begun.lines)
    first = run(*command, cwd=folder)
    with served_world(Storage(str(folder / "root"))) as address:
        yield Built(folder / "root", address, interrupted, first)


def test_ctrl_c_stops_with_a_sentence_and_the_same_command_goes_on(built: Built) -> None:
    status, err = built.interrupted
    assert status == 130
    assert err.splitlines()[-1] == "aitax: stopped; the same command goes on from here"
    assert "Traceback" not in err
    assert built.first.status == 0, built.first.err
    assert built.first.err.count("is complete already") == 3  # manifest, download, split
    assert "train: continuing where an earlier run stopped" in built.first.err


def test_the_demo_names_a_photograph_that_its_engine_has_never_seen(built: Built) -> None:
    metrics = built.ws.storage.read_json("evaluation/metrics.json")
    assert metrics["top1"] >= FLOOR
    assert f"top-1 on the test split: {100 * metrics['top1']:.1f} %" in built.first.err
    asked = next(line for line in built.first.err.splitlines() if "a photograph that is in no archive, of " in line)
    assert asked.rsplit(" of ", 1)[1].rstrip(":") in built.first.out
    assert "creativecommons.org" in built.first.out


def test_build_runs_every_stage_and_each_leaves_its_report(built: Built) -> None:
    for stage in pipeline.STAGES:
        report = built.ws.report(stage.name)
        assert report is not None
        assert report.seconds > 0
        assert (built.root / FOLDERS[stage.name][0] / "report.json").exists()


def test_nothing_is_lost_between_archive_and_split(built: Built) -> None:
    manifest, download = built.ws.require("manifest"), built.ws.require("download")
    split = built.ws.require("split")
    assert manifest.counts["rows_read"] == manifest.counts["kept"] + sum(manifest.reasons.values())
    assert download.counts["urls"] == manifest.counts["kept"]
    assert download.counts["ok"] == num_photos(**WORLD)
    assert download.reasons == {"not_found": download.counts["failed"]}
    kept = sum(split.counts[side] for side in ("train", "val", "test"))
    assert kept + sum(split.reasons.values()) == download.counts["ok"]


def test_nothing_to_be_published_names_a_place_on_this_machine(built: Built) -> None:
    public = (
        workspace.DATA_CARD,
        workspace.DATA_CARD_JSON,
        workspace.CROISSANT,
        workspace.ATTRIBUTION,
        workspace.ENGINES,
    )
    for path in (*public, "evaluation/report.html"):
        assert_nothing_private(built.root / path, [str(built.root.parent), str(Path(__file__).parents[1]), "file:/"])


def test_report_page_and_curves_are_there_to_look_at(built: Built) -> None:
    page = (built.root / "evaluation" / "report.html").read_text()
    assert all(kind.name in page for kind in SPECIES)
    assert (built.root / "model" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_second_build_does_nothing_and_says_so(built: Built) -> None:
    before = {f: f.stat().st_mtime_ns for f in built.root.rglob("*") if f.is_file()}
    # The command that the demo tells people, with the addresses of its own small GBIF.
    command = next(line.split() for line in built.first.err.splitlines() if line.startswith("    aitax build "))
    again = run(*command[1:], cwd=built.root.parent)
    assert again.status == 0, again.err
    assert again.err.count("is complete already") == len(pipeline.STAGES)
    assert {f: f.stat().st_mtime_ns for f in built.root.rglob("*") if f.is_file()} == before


def test_index_holds_the_training_photographs_with_their_authors(built: Built) -> None:
    rows = read_rows(Storage(str(built.root))).to_pylist()
    split = {r["image_id"]: r["split"] for r in pq.read_table(built.root / "split" / "split.parquet").to_pylist()}
    assert {row["image_id"] for row in rows} == {image_id for image_id, side in split.items() if side == "train"}
    assert all(row["creator"] and row["license"] and row["url"].startswith("http://127.0.0.1") for row in rows)


def test_identify_names_an_unseen_photograph(built: Built, tmp_path: Path) -> None:
    photo = tmp_path / "unseen.jpg"
    photo.write_bytes(unseen_photo(SPECIES[0], seed=5))
    asked = run("identify", photo, "--engine", built.root, "--json", "--no-reject", cwd=tmp_path)
    assert asked.status == 0, asked.err
    answer = json.loads(asked.out)
    assert {result["name"] for result in answer["results"]} <= {kind.name for kind in SPECIES}
    assert answer["results"][0]["images"]
    table = run("identify", photo, "--engine", built.root, "--no-reject", cwd=tmp_path)
    best = answer["results"][0]
    assert best["name"] in table.out
    assert best["images"][0]["rightsHolder"] in table.out


def test_the_commands_of_the_first_guide_run(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(built.root, "ticks")
    for name in ("photo.jpg", "side.jpg", "front.jpg"):
        Path(name).write_bytes(unseen_photo(SPECIES[0], seed=5))
    ran = []
    for command in commands(ROOT / "docs" / "first-engine.md"):
        words = [DOI if "dl." in word else word for word in command.words[1:]]
        if DOI in words:  # of the demo's GBIF
            words += ["--gbif-url", built.address]
        # Another test starts the service; this guide's builds would take minutes.
        if command.words[0] == "aitax" and not {"build", "demo", "serve", "--url", "--names", "--version"} & {*words}:
            cli.app(words, exit_on_error=False, print_error=False, result_action="return_value")
            ran.append(words[0])
    assert ran == ["manifest", "identify", "identify", "identify", "cite", "export", "publish", "engines"]
    assert DOI in capsys.readouterr().out


@dataclass(frozen=True)
class Service:
    """`aitax serve` on a copy of the root, since a photograph is withdrawn from it."""

    root: Path
    address: str
    client: httpx.Client


@pytest.fixture(scope="module")
def service(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    root = Path(shutil.copytree(built.root, tmp_path_factory.mktemp("served") / "root"))
    with running("serve", "--engine", root, "--port", "0", "--allow-private-hosts", cwd=root) as command:
        address = command.wait_for(r"serving (http://\S+) ", TIMEOUT_S)[1]
        with httpx.Client(base_url=address, timeout=60) as client:
            yield Service(root, address, client)
        assert command.interrupt() == 0


def test_service_answers_over_http(built: Built, service: Service, tmp_path: Path) -> None:
    client, photos = service.client, [unseen_photo(kind, seed=11) for kind in SPECIES]
    (tmp_path / "one.jpg").write_bytes(photos[0])
    version = client.get("/status").json()["engine"]
    assert version == (built.root / "engines" / "current").read_text().strip()
    twice = [("image", ("a.jpg", photos[0])), ("image", ("b.jpg", photos[0]))]
    # One in twenty photographs of known species is rejected, by the decisions of `evaluate`.
    answer = client.post("/identify", params={"no-reject": True}, files=twice)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert sum(result["score"] for result in results) == pytest.approx(1, abs=0.02)
    assert results == sorted(results, key=lambda result: -result["score"])
    shown = results[0]["images"][0]
    assert shown["rightsHolder"]
    small = client.get(shown["thumbnail"])
    assert (small.headers["content-type"], small.content[8:12]) == ("image/webp", b"WEBP")
    assert client.head(shown["thumbnail"]).headers["content-length"] == str(len(small.content))
    assert client.get(f"/images/{'0' * 40}").status_code == 404
    # What is shown can itself be asked about, by its URL: it was trained on, so the index knows it.
    by_url = client.get("/identify", params={"image": shown["url"], "no-reject": True}).json()["results"]
    assert shown["url"] in [image["url"] for result in by_url for image in result["images"]]
    assert len(client.get("/taxa").json()) == len(SPECIES)
    assert client.post("/identify", files={"image": b"no photograph"}).status_code == 415
    asked = ("identify", tmp_path / "one.jpg", "--json", "--no-reject")
    local = json.loads(run(*asked, "--engine", built.root, cwd=tmp_path).out)
    remote = json.loads(run(*asked, "--url", service.address, cwd=tmp_path).out)
    scores = [{r["name"]: r["score"] for r in found["results"]} for found in (local, remote)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    taken = run("serve", "--engine", built.root, "--port", service.address.rsplit(":", 1)[1], cwd=tmp_path)
    assert (taken.status, taken.err.count("\n")) == (1, 2)
    assert "choose another --port" in taken.err


def test_a_withdrawn_photograph_is_gone_from_a_running_service_at_once_and_never_comes_back(
    built: Built, service: Service, tmp_path: Path
) -> None:
    root, client = service.root, service.client
    storage = Storage(str(root))
    row = read_rows(storage).to_pylist()[0]
    thumbnail = client.get(f"/images/{row['image_id']}")
    assert thumbnail.status_code == 200
    taken = run("takedown", "--root", root, "--url", row["url"], "--requested-by", "the author", cwd=tmp_path)
    assert taken.status == 0, taken.err
    assert "1 photograph by --url" in taken.out
    until = time.monotonic() + 60
    while client.get(f"/images/{row['image_id']}").status_code != 404:
        assert time.monotonic() < until
    ask = {"params": {"no-reject": True}, "files": {"image": thumbnail.content}}
    answer = client.post("/identify", **ask)
    assert answer.json()["results"][0]["images"]
    assert row["url"] not in answer.text
    published = run("publish", "--root", root, cwd=tmp_path)
    assert published.status == 0, published.err
    assert client.post("/identify", **ask).json() == answer.json()
    for path in root.rglob("*"):
        is_kept = path.is_relative_to(root / "takedowns") or path.is_relative_to(root / "world")
        if path.is_file() and not is_kept:
            content = path.read_bytes()
            if path.suffix == ".parquet":  # compressed
                content += str(pq.read_table(path).to_pylist()).encode()
            assert row["url"].encode() not in content, path
            assert thumbnail.content not in content, path
    # Nothing is trained again, and nothing brings it back.
    command = next(line.split() for line in built.first.err.splitlines() if line.startswith("    aitax build "))
    flags = ["--root", str(root), *command[4:]]
    again = run("build", *flags, cwd=tmp_path)
    assert again.err.count("is complete already") == len(pipeline.STAGES), again.err
    for stage in ("manifest", "download"):
        known = {flag for name in STAGE_OF[stage].settings.model_fields for flag in [f"--{name.replace('_', '-')}"]}
        own = [word for n, word in enumerate(flags) if (word if word.startswith("--") else flags[n - 1]) in known]
        assert run(stage, *own, "--force", cwd=tmp_path).status == 0
    assert Workspace(str(root)).require("manifest").reasons["withdrawn"] == 1
    for table in (workspace.MEDIA, workspace.IMAGES, workspace.LEDGER):
        assert row["image_id"] not in storage.read_table(table, ["image_id"])["image_id"].to_pylist()


def test_settings_of_every_stage_are_checked_before_the_first_one_runs(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--val and --test"):
        pipeline.build({"root": str(tmp_path / "r"), "doi": "10.15468/dl.x", "val": 0.5, "test": 0.5}, {})
    assert not (tmp_path / "r").exists()


def test_a_dry_run_stops_after_the_manifest_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos" / "Rana_alba").mkdir(parents=True)
    (tmp_path / "photos" / "Rana_alba" / "1.jpg").write_bytes(b"1")
    given = {"root": str(tmp_path / "r"), "photos": tmp_path / "photos", "dry_run": True}
    [report] = pipeline.build(given, {})
    assert (report.stage, report.counts["images"]) == ("manifest", 1)
    assert not (tmp_path / "r").exists()


def test_views_are_those_that_training_learns_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos" / "Rana_alba").mkdir(parents=True)
    (tmp_path / "photos" / "Rana_alba" / "1.jpg").write_bytes(b"1")
    given = {"root": str(tmp_path / "r"), "photos": tmp_path / "photos", "dry_run": True, "views": 3}
    built = []

    def watch(*sources: Any) -> Any:
        built.append(build_settings(*sources))
        return built[-1]

    monkeypatch.setattr(pipeline, "build_settings", watch)
    pipeline.build(given, {"index": {"views": 2}})
    views = {type(settings).__name__: getattr(settings, "views", None) for settings in built}
    assert (views["TrainSettings"], views["IndexSettings"]) == (3, 2)
    built.clear()
    pipeline.build(given, {})
    assert [settings.views for settings in built if type(settings).__name__ == "IndexSettings"] == [1]
