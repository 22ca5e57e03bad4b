import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from aitax_ray import __version__, schemas, storage
from aitax_ray import workspace as names
from aitax_ray.dataset.export import ExportSettings, export
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split import split
from aitax_ray.errors import DataError, MissingArtifactError, StaleArtifactError, StorageError
from aitax_ray.manifest.manifest import manifest
from aitax_ray.manifest.settings import ManifestSettings
from aitax_ray.settings import HOW, StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import FOLDERS, Outcome, StageReport, Workspace
from tests.blank import blank_row
from tests.fake_gbif import Answer
from tests.gbif_download import archive_files, occurrence, write_zip
from tests.gbif_download import photo as listed_photo
from tests.gbif_server import Server
from tests.private import assert_nothing_private
from tests.small import jpeg, photo

STAGE, READS = "split", ("download",)


class SomeSettings(StageSettings):
    val: float = 0.1
    concurrency: Annotated[int, HOW] = 1


class ContentSettings(SomeSettings):
    """Settings of a stage that reads a folder beside the root: its content decides, not its path."""

    folder: str = "photos"

    def result_fields(self) -> dict[str, Any]:
        return super().result_fields() | {"folder": True, "content": self.val}


class Work:
    """Work that counts how often it ran and writes a file named after its content."""

    def __init__(self, storage: Storage, *contents: str, fails: BaseException | None = None) -> None:
        self.storage, self.contents, self.fails, self.runs = storage, contents or ("a",), fails, 0
        self.report_was_there: bool | None = None

    def __call__(self) -> Outcome:
        self.runs += 1
        self.report_was_there = self.storage.exists(f"{STAGE}/report.json")
        for content in self.contents:
            self.storage.write_bytes(f"{STAGE}/{content}", content.encode())
        if self.fails:
            raise self.fails
        return Outcome(counts={"train": 1200}, reasons={"too_few": 3}, metrics={"top1": 0.5, "loss": None})


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace in which `download` is complete."""
    workspace = Workspace(str(tmp_path / "root"))
    download(workspace)
    return workspace


def download(ws: Workspace, content: bytes = b"photographs") -> None:
    def work() -> Outcome:
        ws.storage.write_bytes("images/one.parquet", content)
        return Outcome()

    ws.run("download", SomeSettings(root=ws.root, force=True), (), work)


def run(ws: Workspace, work: Callable[[], Outcome], incremental: bool = False, **settings: object) -> StageReport:
    return ws.run(STAGE, SomeSettings(root=ws.root, **settings), READS, work, incremental=incremental)


def interrupt(ws: Workspace, *contents: str, incremental: bool = False, **settings: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(ws, Work(ws.storage, *contents, fails=KeyboardInterrupt()), incremental, **settings)


def contents(ws: Workspace) -> list[str]:
    return sorted(p.name for p in Path(ws.root, STAGE).iterdir())


def test_a_stage_leaves_its_files_and_a_report(ws: Workspace) -> None:
    report = run(ws, Work(ws.storage), val=0.2)
    assert contents(ws) == ["a", "report.json"]
    assert ws.report(STAGE) == report
    assert ws.require(STAGE) == report
    assert report.stage == STAGE
    assert report.settings == {"root": ws.root, "force": False, "val": 0.2, "concurrency": 1}
    assert report.inputs == {"download": ws.digest("download")}
    assert report.counts == {"train": 1200}
    assert report.reasons == {"too_few": 3}
    assert report.metrics == {"top1": 0.5, "loss": None}
    assert report.versions["aitax-ray"] == __version__
    assert report.started.tzinfo is not None


def test_a_report_has_a_summary_of_one_line(ws: Workspace) -> None:
    assert run(ws, Work(ws.storage)).summary() == "1,200 train; top1 0.500; left out: 3 too_few"


def test_a_complete_stage_is_skipped_and_says_so(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    first, again = run(ws, Work(ws.storage)), Work(ws.storage)
    caplog.set_level(logging.INFO)
    assert run(ws, again) == first
    assert again.runs == 0
    assert "split is complete already (--force runs it again)" in caplog.text


def test_another_object_of_the_same_root_knows_that_a_stage_is_complete(ws: Workspace) -> None:
    run(ws, Work(ws.storage))
    again = Work(ws.storage)
    run(Workspace(ws.root), again)
    assert again.runs == 0


def test_settings_marked_how_make_no_stage_stale(ws: Workspace) -> None:
    run(ws, Work(ws.storage), concurrency=1)
    again = Work(ws.storage)
    run(ws, again, concurrency=9)
    assert again.runs == 0


def test_a_workspace_that_was_moved_is_still_complete(ws: Workspace, tmp_path: Path) -> None:
    run(ws, Work(ws.storage))
    Path(ws.root).rename(tmp_path / "moved")
    moved = Workspace(str(tmp_path / "moved"))
    again = Work(moved.storage)
    run(moved, again)
    assert again.runs == 0


def test_changed_settings_run_a_stage_again_from_nothing(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    run(ws, Work(ws.storage, "old"), val=0.1)
    caplog.set_level(logging.INFO)
    report = run(ws, Work(ws.storage, "new"), val=0.2)
    assert contents(ws) == ["new", "report.json"]
    assert ws.report(STAGE) == report
    assert "split runs again: val is 0.2, was 0.1" in caplog.text


def test_what_a_setting_stands_for_is_not_called_a_changed_setting(
    ws: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for val in (0.1, 0.2):
        ws.run(STAGE, ContentSettings(root=ws.root, val=val), READS, Work(ws.storage))
    assert "split runs again: val is 0.2, was 0.1\n" in caplog.text


def test_a_changed_input_runs_a_stage_again_from_nothing(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    run(ws, Work(ws.storage, "old"))
    download(ws, b"other photographs")
    caplog.set_level(logging.INFO)
    run(ws, Work(ws.storage, "new"))
    assert contents(ws) == ["new", "report.json"]
    assert "split runs again: the artifacts of `download` have changed" in caplog.text


def test_an_input_that_was_made_again_and_is_equal_makes_no_stage_stale(ws: Workspace) -> None:
    run(ws, Work(ws.storage))
    download(ws)
    again = Work(ws.storage)
    run(ws, again)
    assert again.runs == 0


@pytest.mark.parametrize("what", ["delete", "write_json"])
@pytest.mark.parametrize("settings", [{"val": 0.2}, {"force": True}])
def test_after_a_kill_at_any_moment_the_next_run_knows_whose_the_files_are(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, what: str, settings: dict[str, object]
) -> None:
    killed = 0
    for moment in range(1, 20):
        run(ws, Work(ws.storage, "old"), val=0.1)
        calls, work = 0, getattr(Storage, what)

        def kill(*given: object, work: Callable[..., object] = work, moment: int = moment) -> object:
            nonlocal calls
            calls += 1
            if calls == moment:
                raise KeyboardInterrupt
            return work(*given)

        with monkeypatch.context() as patch:
            patch.setattr(Storage, what, kill)
            try:
                run(ws, Work(ws.storage, "new"), **settings)
                break
            except KeyboardInterrupt:
                killed += 1
        run(ws, Work(ws.storage, "new"), val=0.2)
        assert [file.path for file in ws.storage.files(STAGE)] == [f"{STAGE}/new", f"{STAGE}/report.json"]
    assert killed >= 3


def test_a_stage_may_have_a_reason_of_its_own_to_run_again(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    run(ws, Work(ws.storage, "1"))
    caplog.set_level(logging.INFO)
    settings, work = SomeSettings(root=ws.root), Work(ws.storage, "2")
    ws.run(STAGE, settings, READS, work, incremental=True, rerun_reason="timeout may have passed")
    assert contents(ws) == ["1", "2", "report.json"]
    assert "split runs again: timeout may have passed" in caplog.text


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("path", ["images/holiday/beach.jpg", "ledger/2024.ods"])
def test_files_that_a_stage_did_not_make_stop_it_and_stay(
    tmp_path: Path, path: str, force: bool, incremental: bool
) -> None:
    ws, settings = Workspace(str(tmp_path)), SomeSettings(root=str(tmp_path), force=force)
    ws.storage.write_bytes(path, b"a year's work")
    message = f"{tmp_path}/{path.split('/')[0]} holds files that .* move them away or choose another --root"
    with pytest.raises(StorageError, match=message):
        ws.run("download", settings, (), Outcome, incremental=incremental)
    assert [file.path for file in ws.storage.files("")] == [path]
    ws.storage.delete(path)
    assert ws.run("download", settings, (), Outcome, incremental=incremental) == ws.report("download")


@pytest.mark.parametrize("force", [False, True])
def test_a_stage_that_was_killed_while_it_wrote_its_mark_can_run_again(ws: Workspace, force: bool) -> None:
    ws.storage.write_bytes(f"{STAGE}/..started.json.0123", b"")
    assert run(ws, Work(ws.storage), force=force) == ws.report(STAGE)


def test_the_settings_of_the_last_complete_run_are_known_while_another_runs(ws: Workspace) -> None:
    assert ws.last_settings(STAGE) == {}
    run(ws, Work(ws.storage, "1"), val=0.1)
    for val in (0.2, 0.3):
        interrupt(ws, "2", incremental=True, val=val)
        assert ws.last_settings(STAGE)["val"] == 0.1
    run(ws, Work(ws.storage, "3"), incremental=True, val=0.4)
    assert ws.last_settings(STAGE)["val"] == 0.4
    interrupt(ws, "4", force=True)
    assert ws.last_settings(STAGE) == {}


def test_force_runs_a_complete_stage_again_from_nothing(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    run(ws, Work(ws.storage, "old"))
    caplog.set_level(logging.INFO)
    run(ws, Work(ws.storage, "new"), force=True)
    assert contents(ws) == ["new", "report.json"]
    assert "--force was given" in caplog.text


def test_a_stage_that_ran_with_force_is_complete_without_force(ws: Workspace) -> None:
    run(ws, Work(ws.storage), force=True)
    again = Work(ws.storage)
    run(ws, again)
    assert again.runs == 0


def test_an_interrupted_stage_goes_on_with_its_files(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    interrupt(ws, "half")
    assert ws.report(STAGE) is None
    assert contents(ws) == [".started.json", "half"]
    caplog.set_level(logging.INFO)
    run(ws, Work(ws.storage, "other"))
    assert contents(ws) == ["half", "other", "report.json"]
    assert "continuing where an earlier run stopped" in caplog.text


def test_an_interrupted_stage_with_other_settings_starts_over(ws: Workspace) -> None:
    interrupt(ws, "half", val=0.1)
    run(ws, Work(ws.storage, "whole"), val=0.2)
    assert contents(ws) == ["report.json", "whole"]


def test_an_interrupted_stage_whose_input_changed_starts_over(ws: Workspace) -> None:
    interrupt(ws, "half")
    download(ws, b"other photographs")
    run(ws, Work(ws.storage, "whole"))
    assert contents(ws) == ["report.json", "whole"]


def test_a_stage_that_was_interrupted_while_running_again_is_not_complete_with_old_or_new_settings(
    ws: Workspace,
) -> None:
    run(ws, Work(ws.storage, "old"), val=0.1)
    interrupt(ws, "half", val=0.2)
    again = Work(ws.storage, "old")
    run(ws, again, val=0.1)
    assert again.runs == 1
    assert contents(ws) == ["old", "report.json"]


def test_force_deletes_the_files_of_an_interrupted_run(ws: Workspace) -> None:
    interrupt(ws, "half")
    run(ws, Work(ws.storage, "whole"), force=True)
    assert contents(ws) == ["report.json", "whole"]


def test_a_forced_run_that_was_interrupted_goes_on_without_force(ws: Workspace) -> None:
    run(ws, Work(ws.storage, "old"))
    interrupt(ws, "half", force=True)
    run(ws, Work(ws.storage, "other"))
    assert contents(ws) == ["half", "other", "report.json"]


def test_an_incremental_stage_keeps_its_files_when_settings_or_inputs_change(ws: Workspace) -> None:
    run(ws, Work(ws.storage, "1"), incremental=True, val=0.1)
    run(ws, Work(ws.storage, "2"), incremental=True, val=0.2)
    interrupt(ws, "3", incremental=True, val=0.3)
    download(ws, b"other photographs")
    run(ws, Work(ws.storage, "4"), incremental=True, val=0.4)
    assert contents(ws) == ["1", "2", "3", "4", "report.json"]


def test_force_clears_an_incremental_stage_too(ws: Workspace) -> None:
    run(ws, Work(ws.storage, "1"), incremental=True)
    run(ws, Work(ws.storage, "2"), incremental=True, force=True)
    assert contents(ws) == ["2", "report.json"]


def test_the_report_is_written_last_and_not_there_during_the_work(ws: Workspace) -> None:
    run(ws, Work(ws.storage), val=0.1)
    work = Work(ws.storage)
    run(ws, work, incremental=True, val=0.2)
    assert work.report_was_there is False


def test_a_stage_that_fails_has_no_report(ws: Workspace) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        run(ws, Work(ws.storage, fails=RuntimeError("broken")))
    with pytest.raises(MissingArtifactError):
        ws.require(STAGE)


def test_a_missing_input_names_the_command_and_no_work_is_done(tmp_path: Path) -> None:
    ws = Workspace(str(tmp_path))
    work = Work(ws.storage)
    with pytest.raises(MissingArtifactError, match=f"run `aitax download --root {tmp_path}` first"):
        run(ws, work)
    assert work.runs == 0
    assert list(tmp_path.iterdir()) == []


def test_clearing_takes_all_folders_of_a_stage_and_no_other(ws: Workspace) -> None:
    run(ws, Work(ws.storage))
    ws.storage.write_bytes("ledger/one.parquet", b"1")
    ws.clear("download")
    assert [name for name in FOLDERS["download"] if ws.storage.exists(name)] == []
    assert ws.report(STAGE) is not None


def test_published_engines_are_never_cleared(ws: Workspace) -> None:
    ws.storage.write_bytes("engines/v1/engine.json", b"{}")
    settings = SomeSettings(root=ws.root, force=True)
    ws.run("publish", settings, (), Outcome)
    assert ws.storage.exists("engines/v1/engine.json")


@pytest.mark.parametrize(
    ("path", "content"),
    [("manifest/one.parquet", b"longer than it was"), ("manifest/two.parquet", b""), ("archive/query.json", b"1")],
)
def test_the_digest_changes_with_any_file_of_the_stage(ws: Workspace, path: str, content: bytes) -> None:
    ws.storage.write_bytes("manifest/one.parquet", b"one")
    before = ws.digest("manifest")
    ws.storage.write_bytes(path, content)
    assert ws.digest("manifest") != before


@pytest.mark.parametrize("path", ["images/one.parquet", "images/two.parquet"])
def test_the_digest_of_the_download_changes_with_any_file_of_photographs(ws: Workspace, path: str) -> None:
    before = ws.digest("download")
    ws.storage.write_bytes(path, b"longer than it was")
    assert ws.digest("download") != before


def test_the_digest_of_the_download_changes_when_photographs_are_deleted(ws: Workspace) -> None:
    before = ws.digest("download")
    ws.storage.delete("images/one.parquet")
    assert ws.digest("download") != before


def test_a_second_failure_to_fetch_makes_nothing_stale(ws: Workspace) -> None:
    settings, before = SomeSettings(root=ws.root), ws.digest("download")
    run(ws, Work(ws.storage))

    def work() -> Outcome:
        ws.storage.write_bytes("ledger/two.parquet", b"rows")
        return Outcome(counts={"failed": 1}, reasons={"timeout": 1}, metrics={"share": 0.5})

    ws.run("download", settings, (), work, incremental=True, rerun_reason="timeout may have passed")
    report = ws.require("download")
    assert (report.counts, report.reasons) == ({"failed": 1}, {"timeout": 1})
    assert ws.digest("download") == before
    again = Work(ws.storage)
    run(ws, again)
    assert again.runs == 0


def test_a_download_with_other_settings_or_of_another_manifest_makes_later_stages_stale(ws: Workspace) -> None:
    def digest(val: float, *reads: str) -> str:
        ws.run("download", SomeSettings(root=ws.root, val=val), reads, Outcome, incremental=True)
        return ws.digest("download")

    def list_photographs(content: bytes) -> None:
        def work() -> Outcome:
            ws.storage.write_bytes("manifest/one.parquet", content)
            return Outcome()

        ws.run("manifest", SomeSettings(root=ws.root, force=True), (), work)

    list_photographs(b"one")
    assert digest(0.1) != digest(0.2)
    before = digest(0.1, "manifest")
    list_photographs(b"more")
    assert digest(0.1, "manifest") != before


def test_the_digest_changes_with_settings_that_change_no_size(ws: Workspace) -> None:
    def digest(**settings: object) -> str:
        run(ws, Work(ws.storage), **settings)
        return ws.digest(STAGE)

    assert digest(val=0.1) != digest(val=0.2)
    assert digest(val=0.2) == digest(val=0.2, concurrency=3, force=True)


def test_the_digest_changes_with_the_counts_when_no_size_does(ws: Workspace) -> None:
    def digest(top1: float) -> str:
        run(ws, lambda: Outcome(metrics={"top1": top1}), force=True)
        return ws.digest(STAGE)

    assert digest(0.5) != digest(0.6)
    assert digest(0.5) == digest(0.5)


@pytest.mark.parametrize("path", ["images/.started.json", "split/split.parquet"])
def test_the_digest_ignores_hidden_files_and_other_stages(ws: Workspace, path: str) -> None:
    before = ws.digest("download")
    ws.storage.write_bytes(path, b"anything")
    assert ws.digest("download") == before


def test_the_digest_notes_a_file_that_moved_within_the_stage(ws: Workspace) -> None:
    before = ws.digest("download")
    Path(ws.root, "images", "one.parquet").rename(Path(ws.root, "images", "two.parquet"))
    assert ws.digest("download") != before


def test_no_folder_belongs_to_two_stages() -> None:
    folders = [folder for owned in FOLDERS.values() for folder in owned]
    assert len(set(folders)) == len(folders)


def test_a_report_is_plain_json(ws: Workspace) -> None:
    run(ws, Work(ws.storage))
    content = json.loads(Path(ws.root, STAGE, "report.json").read_text(encoding="utf-8"))
    assert set(content) == set(StageReport.model_fields)


def test_an_input_made_from_something_older_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    ws, settings = Workspace(str(tmp_path)), StageSettings(root=str(tmp_path))

    def write(stage: str, path: str, content: bytes, reads: tuple[str, ...] = ()) -> None:
        def work() -> Outcome:
            ws.storage.write_bytes(path, content)
            return Outcome()

        ws.run(stage, settings.model_copy(update={"force": True}), reads, work)

    write("manifest", "manifest/taxa.parquet", b"one")
    write("download", "images/a.parquet", b"a", ("manifest",))
    write("split", "split/split.parquet", b"s", ("manifest", "download"))
    write("manifest", "manifest/taxa.parquet", b"another")
    with pytest.raises(StaleArtifactError, match="`download` was made from an earlier `manifest`: run `aitax download"):
        ws.run("train", settings, ("manifest", "download", "split"), Outcome)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that stands for every root in S3."""
    opened = pafs.LocalFileSystem(), str(tmp_path / "bucket")
    monkeypatch.setattr(storage, "_open_filesystem", lambda root: opened)
    return tmp_path / "bucket"


def store_photographs(ws: Workspace) -> None:
    """Make `download` complete with every photograph of the manifest."""

    def work() -> Outcome:
        media = ws.storage.read_table(names.MEDIA, ["image_id", "gbif_id", "species_key"]).to_pylist()
        known = {"width": 56, "height": 44, "jpeg": jpeg(photo("Z9", 0)), "contrast": 40.0, "phash": None}
        rows = [blank_row(schemas.IMAGES, **row, **known) for row in media]
        ws.storage.write_table(f"{names.IMAGES}/0.parquet", pa.Table.from_pylist(rows, schemas.IMAGES))
        return Outcome()

    ws.run("download", StageSettings(root=ws.root), ("manifest",), work)


def test_no_artifact_of_a_build_holds_a_secret_of_its_addresses(
    bucket: Path, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aitax_ray")
    frogs = [occurrence(str(number), str(11 + number % 2)) for number in range(40)]
    media = [listed_photo(str(number), f"http://a.org/{number}.jpg") for number in range(40)]
    server.routes["/frogs.zip"] = Answer(write_zip(tmp_path / "frogs.zip", archive_files(frogs, media)).read_bytes())
    root = "s3://AKIAKEY:s3cr3t/key@bucket/root"
    archive = f"{server.url}/frogs.zip?X-Amz-Credential=cr3d&X-Amz-Signature=s1gnature"
    manifest(ManifestSettings(root=root, archive=archive))
    store_photographs(Workspace(root))
    split(SplitSettings(root=root, min_side=1))
    secrets = ["AKIAKEY", "s3cr3t", "cr3d", "s1gnature"]
    assert_nothing_private(bucket, secrets)
    assert [secret for secret in secrets if secret in caplog.text] == []
    report = Workspace(root).require("split")
    assert report.settings["root"] == "s3://***@bucket/root"
    for path in (names.DATA_CARD, names.DATA_CARD_JSON, names.CROISSANT, names.ATTRIBUTION):
        assert_nothing_private(bucket / path, [str(tmp_path)])


def test_nothing_to_be_published_names_the_place_of_own_photographs(tmp_path: Path) -> None:
    own, root = tmp_path / "at_home", str(tmp_path / "root")
    for name in (f"Rana {species}/{number}.jpg" for species in ("alba", "nigra") for number in range(20)):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(name.encode())
    manifest(ManifestSettings(root=root, photos=own))
    store_photographs(Workspace(root))
    split(SplitSettings(root=root, min_side=1))
    for kind in ("csv", "imagefolder", "webdataset"):
        export(ExportSettings.model_validate({"root": root, "to": kind, "output": str(tmp_path / kind)}))
        assert_nothing_private(tmp_path / kind, [str(tmp_path), "at_home"])
    for path in (names.DATA_CARD, names.DATA_CARD_JSON, names.CROISSANT, names.ATTRIBUTION):
        # The card names the folder that was asked for, and not where it is.
        assert_nothing_private(tmp_path / "root" / path, [str(tmp_path), "file:/"])


def test_another_key_to_the_same_root_makes_nothing_stale(bucket: Path) -> None:
    old, new = (Workspace(f"s3://KEY:{secret}@bucket/root") for secret in ("old", "new"))
    download(old)
    again = Work(new.storage)
    assert run(old, Work(old.storage)) == run(new, again)
    assert again.runs == 0


def test_what_cannot_be_prepared_costs_nothing_of_the_earlier_run(ws: Workspace) -> None:
    before = run(ws, Work(ws.storage, "a"))

    def prepare() -> None:
        raise DataError("no weights")

    for changes in ({"val": 0.2}, {"force": True}):
        settings = SomeSettings.model_validate({"root": ws.root, **changes})
        with pytest.raises(DataError, match="no weights"):
            ws.run(STAGE, settings, READS, Work(ws.storage, "b"), prepare=prepare)
        assert ws.storage.exists(f"{STAGE}/a")
        assert ws.report(STAGE) == before


def shorten(ws: Workspace) -> None:
    ws.storage.write_bytes("images/one.parquet", b"photo")


def test_an_edit_makes_no_later_stage_stale_and_any_other_change_does(ws: Workspace) -> None:
    run(ws, Work(ws.storage))
    before = ws.digest("download")
    ws.edit(lambda: shorten(ws))
    assert ws.storage.read_bytes("images/one.parquet") == b"photo"
    assert ws.digest("download") == before
    again = Work(ws.storage)
    run(ws, again)
    assert again.runs == 0
    ws.storage.write_bytes("images/one.parquet", b"another size")
    assert ws.digest("download") != before
    run(ws, again)
    assert again.runs == 1


def test_edits_follow_each_other(ws: Workspace) -> None:
    before = ws.digest("download")
    ws.edit(lambda: shorten(ws))
    ws.edit(lambda: ws.storage.write_bytes("images/one.parquet", b"p"))
    ws.edit(lambda: None)
    assert ws.digest("download") == before
    shorten(ws)  # as after the first edit
    assert ws.digest("download") == before


def test_a_stage_that_runs_again_after_an_edit_with_the_same_result_makes_nothing_stale(ws: Workspace) -> None:
    """`download` does whenever a failed attempt may succeed now."""
    run(ws, Work(ws.storage))
    ws.edit(lambda: shorten(ws))
    download(ws, b"photo")
    again = Work(ws.storage)
    run(ws, again)
    assert again.runs == 0


@pytest.mark.parametrize("when", range(1, 6))
def test_an_edit_that_is_killed_at_any_step_is_finished_by_the_next(
    ws: Workspace, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(ws, Work(ws.storage))
    before, steps = ws.digest("download"), 0

    def counted(name: str) -> Callable[..., object]:
        original = getattr(Storage, name)

        def call(storage: Storage, *arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == when:
                raise KeyboardInterrupt
            return original(storage, *arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "delete"):
            patch.setattr(Storage, name, counted(name))
        try:
            ws.edit(lambda: shorten(ws))
            assert when > 4
        except KeyboardInterrupt:
            assert when <= 4
    if when > 1 and when <= 4:
        with pytest.raises(StorageError, match="--purge` goes on with it"):
            run(ws, Work(ws.storage))
    ws.edit(lambda: shorten(ws))
    assert ws.digest("download") == before
    again = Work(ws.storage)
    run(ws, again)
    assert again.runs == 0
