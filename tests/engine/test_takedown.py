"""The command, on a root that every stage has been through."""

import shutil
from pathlib import Path

import pytest

from aitax_ray import takedowns, workspace
from aitax_ray.engine import takedown as module
from aitax_ray.engine.publish import publish
from aitax_ray.engine.settings import PublishSettings
from aitax_ray.errors import DataError, EngineError, SettingsError
from aitax_ray.workspace import Workspace
from tests.kills import killed_at_each_write
from tests.small import KEYS, SPECIES

LIST = "engines/withdrawn.json"


def run(ws: Workspace, reason: str = "", requested_by: str = "", **more: object) -> str:
    given = {kind: more.pop(kind, []) for kind in ("image", "url", "creator", "occurrence")}
    return module.run(ws.root, None, given, reason, requested_by, **more)  # type: ignore[arg-type]


def listed(ws: Workspace) -> frozenset[str]:
    return takedowns.read_withdrawn(ws.storage, LIST)


def rows(ws: Workspace) -> list[dict[str, str]]:
    found: list[dict[str, str]] = ws.storage.read_table(workspace.MEDIA).to_pylist()
    return sorted(found, key=lambda row: row["url"])


def number(image_ids: set[str]) -> str:
    return "1 photograph" if len(image_ids) == 1 else f"{len(image_ids)} photographs"


def files(ws: Workspace) -> dict[str, bytes]:
    return {file.path: ws.storage.read_bytes(file.path) for file in ws.storage.files("")}


@pytest.mark.parametrize("kind", ["image", "url", "creator", "occurrence"])
def test_each_criterion_withdraws_its_photographs_and_says_what_was_found(published: Workspace, kind: str) -> None:
    row = rows(published)[1]
    value = {
        "image": row["image_id"],
        "url": f"{row['url']}#x",
        "creator": row["creator"].upper(),
        "occurrence": row["gbif_id"],
    }[kind]
    text = run(published, "a reason", "me", **{kind: [value]})
    expected = (
        {r["image_id"] for r in rows(published) if r["gbif_id"] == row["gbif_id"]}
        if kind == "occurrence"
        else {row["image_id"]}
    )
    assert listed(published) == expected
    assert text.startswith(f'{number(expected)} by --{kind} "{value}"\n  in manifest {len(expected)}, ')
    assert f", images {len(expected)}" in text
    assert f"of 1 species: {SPECIES[row['species_key']][0]} {len(expected)}" in text
    (request,) = takedowns.read_requests(published.storage)
    assert (request.kind, set(request.image_ids)) == (kind, expected)
    assert (request.reason, request.requested_by) == ("a reason", "me")
    assert f"Undo with: aitax takedown --root {published.root} --restore {request.name}" in text


def test_the_same_request_again_changes_nothing_and_says_since_when(published: Workspace) -> None:
    row = rows(published)[0]
    run(published, creator=[row["creator"]])
    before = files(published)
    text = run(published, creator=[f" {row['creator'].lower()}"])
    assert "(withdrawn on 20" in text
    assert files(published) == before
    publish(PublishSettings(root=published.root))
    assert "in no file any more" in run(published, creator=[row["creator"]])
    assert "was withdrawn already, by 20" in run(published, image=[row["image_id"]])
    assert "was withdrawn already, by 20" in run(published, url=[row["url"].replace("https", "http")])
    assert len(takedowns.read_requests(published.storage)) == 1
    assert listed(published) == {row["image_id"]}


def test_a_dry_run_writes_nothing(published: Workspace) -> None:
    before = files(published)
    assert "Nothing was changed" in run(published, creator=[rows(published)[0]["creator"]], dry_run=True)
    assert files(published) == before


@pytest.mark.parametrize("kind", ["image", "url", "creator", "occurrence"])
def test_what_is_unknown_is_an_error_and_nothing_is_withdrawn(published: Workspace, kind: str) -> None:
    value = {"image": "0" * 40, "url": "https://photos.example/7K3/99.jpg", "creator": "Nobody", "occurrence": "x"}[
        kind
    ]
    before = files(published)
    known = {"image": [rows(published)[0]["image_id"]]} if kind != "image" else {}
    with pytest.raises(DataError, match=rf'no photograph under .* matches --{kind} "{value}"'):
        run(published, **{kind: [value]}, **known)
    assert files(published) == before


def test_similar_names_are_shown_and_not_withdrawn(published: Workspace) -> None:
    with pytest.raises(DataError, match=r'similar names are "Author of 7K3/0" \(1\)'):
        run(published, creator=["Áuthor of 7K3/0"])
    text = run(published, creator=["Author of 7K3/1"])
    assert '  spelled "Author of 7K3/1"' in text
    assert '    "Author of 7K3/10" 1' in text
    assert len(listed(published)) == 1


def test_a_request_that_was_a_mistake_is_undone(published: Workspace) -> None:
    first, second = rows(published)[:2]
    run(published, creator=[first["creator"]])
    (request,) = takedowns.read_requests(published.storage)
    run(published, occurrence=[first["gbif_id"]])  # both photographs are of one occurrence
    text = run(published, restore=request.name)
    assert "1 of its photographs stay withdrawn by other requests" in text
    other = next(r for r in takedowns.read_requests(published.storage) if r.kind == "occurrence")
    assert listed(published) == {first["image_id"], second["image_id"]}
    assert run(published, restore=other.name) == f"{other.name} has no effect any more."
    assert listed(published) == frozenset()
    before = files(published)
    publish(PublishSettings(root=published.root))
    assert files(published) == before
    with pytest.raises(DataError, match="no request is called x: see"):
        run(published, restore="x")


def test_what_was_deleted_comes_back_with_the_next_manifest_and_the_user_is_told(published: Workspace) -> None:
    run(published, image=[rows(published)[0]["image_id"]], purge=True)
    (request,) = takedowns.read_requests(published.storage)
    assert "1 of its photographs were deleted already: `aitax manifest" in run(published, restore=request.name)


def test_the_list_has_every_request(published: Workspace) -> None:
    assert run(published, show_list=True) == "no take-downs"
    row = rows(published)[0]
    run(published, "privacy", "her", creator=[row["creator"]])
    text = run(published, show_list=True)
    assert f'1 photograph  --creator "{row["creator"]}"  reason: privacy  requested by: her' in text
    run(published, restore=text.split()[0])
    assert "restored 20" in run(published, show_list=True)


def test_purge_deletes_at_once(published: Workspace) -> None:
    row = rows(published)[0]
    text = run(published, image=[row["image_id"]], purge=True)
    assert "They were deleted from every file." in text
    assert row["image_id"] not in {r["image_id"] for r in rows(published)}
    assert run(published, purge=True) == "No file holds withdrawn photographs."


def test_an_engine_that_was_copied_elsewhere_has_a_list_of_its_own(published: Workspace, tmp_path: Path) -> None:
    version = published.storage.read_bytes("engines/current").decode().strip()
    engine = shutil.copytree(Path(published.root, "engines", version), tmp_path / "copied")
    index = {
        row["image_id"] for row in published.storage.read_table(workspace.SPLIT).to_pylist() if row["split"] == "train"
    }
    first, second, *_ = [row for row in rows(published) if row["image_id"] in index]
    for row in (first, second):
        text = module.run(None, str(engine), {"creator": [row["creator"]]})
        assert "1 photograph by --creator" in text
        assert "Its files still hold them" in text
    assert takedowns.read_withdrawn(workspace.Storage(str(engine)), "withdrawn.json") == {
        first["image_id"],
        second["image_id"],
    }
    with pytest.raises(DataError, match=r'no photograph of .*copied matches --creator "Nobody"'):
        module.run(None, str(engine), {"creator": ["Nobody"]})
    with pytest.raises(EngineError, match="no complete engine in"):
        module.run(None, published.root, {"creator": ["Nobody"]})


@pytest.mark.parametrize(
    ("root", "engine", "flags"),
    [
        (None, None, {}),
        ("r", "e", {}),
        ("r", None, {}),
        ("r", None, {"restore": "x", "show_list": True}),
        ("r", None, {"restore": "x", "purge": True, "show_list": True}),
        (None, "e", {"restore": "x"}),
        (None, "e", {"show_list": True}),
        (None, "e", {"purge": True}),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    root: str | None, engine: str | None, flags: dict[str, object]
) -> None:
    with pytest.raises(SettingsError, match=r"takedown needs|need --root"):
        module.run(root, engine, {}, **flags)  # type: ignore[arg-type]


def test_after_a_kill_at_any_write_the_same_command_goes_on(
    published: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takedowns, "now", lambda: takedowns.datetime(2026, 1, 1, tzinfo=takedowns.UTC))
    values = [row["creator"] for row in rows(published) if row["species_key"] == KEYS[0]][:3]
    undisturbed = Workspace(str(shutil.copytree(published.root, tmp_path / "undisturbed")))
    run(undisturbed, creator=values)
    copy = Workspace(str(tmp_path / "copy"))
    shutil.copytree(published.root, copy.root)
    numbers = []
    for number in killed_at_each_write(lambda: run(copy, creator=values), monkeypatch):
        run(copy, creator=values)
        assert files(copy) == files(undisturbed)
        shutil.rmtree(copy.root)
        shutil.copytree(published.root, copy.root)
        numbers.append(number)
    assert len(numbers) == 4
