"""What is left out and where the rest goes, on worlds with planted duplicates, conflicts and links."""

import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.dataset import duplicates, tested
from aitax_ray.dataset.choose import choose
from aitax_ray.dataset.duplicates import contradictions
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split_file import read_split_file
from aitax_ray.errors import DataError, SettingsError
from aitax_ray.settings import build_settings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace
from tests.blank import blank_row
from tests.dataset.test_similar import altered, random_hashes
from tests.dataset.test_split import Photo, store

HASHES = random_hashes(3000)


def chosen(root: Path | str, **changes: Any) -> dict[str, dict[str, Any]]:
    """The rows of `choose` by their image_id."""
    return {row["image_id"]: row for row in frame(root, **changes).to_dicts()}


def frame(root: Path | str, **changes: Any) -> pl.DataFrame:
    settings = SplitSettings(root=str(root), **{"min_images": 1, **changes})
    given_split = None if settings.split_file is None else read_split_file(settings.split_file)
    with tempfile.TemporaryDirectory() as folder:
        return pl.concat(choose(Workspace(str(root)), settings, Path(folder), given_split).with_keys(5))


def reasons(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {image_id: row["reason"] for image_id, row in rows.items() if row["reason"]}


def plain(num: int = 6, species: str = "ab") -> list[Photo]:
    return [(f"{key}{n}", f"g{key}{n}", key) for key in species for n in range(num)]


def look_alike(*names: str, distance: int = 6, number: int = 0) -> dict[str, dict[str, Any]]:
    """Columns that make photographs look the same."""
    first = HASHES[number : number + 1]
    return {
        name: {"phash": (altered(first, distance, seed=n) if n else first).tobytes()} for n, name in enumerate(names)
    }


def test_a_copy_leaves_and_its_occurrences_stay_together(tmp_path: Path) -> None:
    known = look_alike("a0", "a1")
    known["a1"]["license_id"] = "CC0-1.0"
    store(str(tmp_path), [*plain(), ("more", "ga0", "a")], known=known)
    rows = chosen(tmp_path)
    assert reasons(rows) == {"a0": "near_duplicate"}
    assert (rows["a0"]["detail"], rows["a0"]["cluster"], rows["a1"]["cluster"]) == ("a1", "a0", "a0")
    assert rows["more"]["group"] == rows["a1"]["group"]
    assert rows["more"]["split"] == rows["a1"]["split"]
    assert not reasons(chosen(tmp_path, max_distance=5))


def test_equal_pixels_are_a_copy_whatever_the_distance(tmp_path: Path) -> None:
    store(str(tmp_path), plain(), known={name: {"jpeg_sha256": "same"} for name in ("b1", "b3", "b5")})
    assert reasons(chosen(tmp_path, max_distance=0)) == dict.fromkeys(("b3", "b5"), "exact_duplicate")


def test_a_conflict_takes_all_of_it_out_and_names_the_species(tmp_path: Path) -> None:
    store(str(tmp_path), plain(), known=look_alike("a0", "b0", "b1"))
    rows = chosen(tmp_path)
    assert reasons(rows) == dict.fromkeys(("a0", "b0", "b1"), "conflict")
    assert {rows[name]["detail"] for name in ("a0", "b0", "b1")} == {"Name a | Name b"}


def test_what_was_left_out_before_makes_no_conflict(tmp_path: Path) -> None:
    known = look_alike("a0", "b0")
    known["b0"] |= {"title": "Label"}
    store(str(tmp_path), plain(), known=known)
    assert reasons(chosen(tmp_path)) == {"b0": "label"}
    assert reasons(chosen(tmp_path, rules=False)) == dict.fromkeys(("a0", "b0"), "conflict")


def test_a_licence_can_be_asked_for_without_downloading_again(tmp_path: Path) -> None:
    licenses = {"a0": "CC0-1.0", "a1": "CC-BY-4.0", "a2": "CC-BY-NC-4.0", "a3": "unknown", "b0": "CC-BY-SA-4.0"}
    photos = [(name, name, name[0]) for name in licenses]
    store(str(tmp_path), photos, known={name: {"license_id": given} for name, given in licenses.items()})
    assert reasons(chosen(tmp_path)) == {}
    assert reasons(chosen(tmp_path, license="non-commercial")) == {"a3": "license"}
    rows = chosen(tmp_path, license="open")
    assert reasons(rows) == {"a2": "license", "a3": "license"}
    assert rows["a2"]["detail"] == "CC-BY-NC-4.0"


def test_small_is_what_is_below_the_limit_but_not_what_was_asked_for(tmp_path: Path) -> None:
    root = store(str(tmp_path), plain(), known={"a0": {"width": 100, "height": 75}})
    assert reasons(chosen(root)) == {"a0": "thumbnail"}
    assert reasons(chosen(root, min_side=100)) == {}
    report = Storage(root).read_json("images/report.json")
    report["settings"]["image_size"] = 96
    Storage(root).write_json("images/report.json", report)
    assert reasons(chosen(root)) == {}


def test_of_a_species_no_more_are_used_than_asked_for_and_those_drawn_stay_drawn(tmp_path: Path) -> None:
    photos = plain(40)
    few = chosen(store(str(tmp_path / "few"), photos[:20] + photos[40:60]), max_images=10)
    many = chosen(store(str(tmp_path / "many"), photos), max_images=10)
    for rows in (few, many):
        used = [row["species_key"] for row in rows.values() if not row["reason"]]
        assert (used.count("a"), used.count("b")) == (10, 10)
        assert set(reasons(rows).values()) == {"above_max_images"}
    kept = {name for name in few if not many[name]["reason"]}
    assert all(not few[name]["reason"] for name in kept)  # what is drawn of many is drawn of few


def test_species_are_held_out_whole_and_by_the_seed(tmp_path: Path) -> None:
    root = store(str(tmp_path), plain(4, "abcdef"))
    rows = chosen(root, holdout_species=2)
    held_out = {row["species_key"] for row in rows.values() if row["reason"] == "held_out_species"}
    assert len(held_out) == 2
    assert {key: row["reason"] for key, row in rows.items()} == {
        key: "held_out_species" if row["species_key"] in held_out else "" for key, row in rows.items()
    }
    assert chosen(root, holdout_species=2) == rows
    others = [
        {row["species_key"] for row in chosen(root, holdout_species=2, seed=seed).values() if row["reason"]}
        for seed in range(1, 6)
    ]
    assert any(other != held_out for other in others)
    fewer = {row["species_key"] for row in chosen(root, holdout_species=1).values() if row["reason"]}
    assert fewer < held_out  # those drawn first stay drawn
    with pytest.raises(DataError, match="--holdout-species 5 would leave fewer than two of 6 species: ask for fewer"):
        chosen(root, holdout_species=5)


def test_a_doubtful_label_says_nothing_of_an_unknown_species(tmp_path: Path) -> None:
    root = store(
        str(tmp_path), plain(4, "abc"), known={name: {"identified_by": "BirdNET 2.4"} for name in ("ga0", "gb0", "gc0")}
    )
    rows = chosen(root, holdout_species=1)
    (held_out,) = {row["species_key"] for row in rows.values() if row["reason"] == "held_out_species"}
    assert rows[f"{held_out}0"]["reason"] == "doubtful_label"


def test_a_species_is_judged_by_what_is_left_of_it(tmp_path: Path) -> None:
    root = store(str(tmp_path), [*plain(4), *plain(4, "c")], known=look_alike("c0", "c1", "c2"))
    rows = chosen(root, min_images=3)
    assert reasons(rows) == {"c0": "species_with_too_few_images"} | dict.fromkeys(("c1", "c2"), "near_duplicate") | {
        "c3": "species_with_too_few_images"
    }
    assert rows["c0"]["detail"] == "2"


def test_somebody_elses_split_is_taken_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = store(str(tmp_path / "r"), [*plain(4), ("more", "ga0", "a")])
    sides = {"a0": "train", "a1": "test", "more": "test", "b0": "train", "b1": "val", "b2": "test"}
    file = tmp_path / "split.csv"
    file.write_text("image_id,split\n" + "".join(f"{name},{side}\n" for name, side in sides.items()), "utf-8")
    rows = chosen(root, split_file=file)
    assert {name: row["split"] for name, row in rows.items() if not row["reason"]} == sides
    assert set(reasons(rows).values()) == {"not_in_split_file"}
    with pytest.raises(SettingsError, match="--split-file: there is no such file"):
        build_settings(SplitSettings, {"root": root, "split_file": "none.csv"})


def test_a_species_that_could_not_be_trained_is_left_out(tmp_path: Path) -> None:
    root = store(str(tmp_path / "r"), plain(4))
    file = tmp_path / "split.csv"
    file.write_text("gbif_id,split\nga0,test\nga1,val\ngb0,train\ngb1,test\n", "utf-8")
    rows = chosen(root, split_file=file)
    assert {name for name, reason in reasons(rows).items() if reason == "species_without_training_images"} == {
        "a0", "a1"
    }  # fmt: skip


def world(seed: int, num: int) -> tuple[list[Photo], dict[str, dict[str, Any]]]:
    """The first `num` photographs of a world in which occurrences, observers, days, places and looks overlap."""
    chance, photos, known = random.Random(seed), [], dict[str, dict[str, Any]]()
    for n in range(num):
        key = "abcdefgh"[min(chance.randrange(8), chance.randrange(8))]
        occurrence = f"g{key}{chance.randrange(60)}"
        photos.append((f"{n:04}", occurrence, key))
        if chance.random() < 0.15:
            known[f"{n:04}"] = look_alike(
                "x", "y", distance=8, number=10 * "abcdefgh".index(key) + chance.randrange(8)
            )["y"]
        if occurrence not in known:
            known[occurrence] = {
                "recorded_by": chance.choice(["Ann", "Bob", ""]), "event_date": f"2020-05-{chance.randrange(1, 29):02}",
                "decimal_latitude": chance.randrange(9) / 3, "decimal_longitude": chance.randrange(9) / 3,
            }  # fmt: skip
    return photos, known


@pytest.mark.parametrize("group_by", [(), ("observer-day",), ("place",), ("observer-day", "place")])
def test_no_group_straddles_the_split(tmp_path: Path, group_by: tuple[str, ...]) -> None:
    for seed in range(5):
        photos, known = world(seed, 300)
        rows = chosen(store(str(tmp_path / str(seed)), photos, known=known), val=0.2, test=0.2, group_by=group_by)
        used = {name: row for name, row in rows.items() if not row["reason"]}
        assert len(used) > 100
        assert {row["split"] for row in used.values()} == {"train", "val", "test"}
        # What must stay together, told without the code that groups.
        together: dict[object, set[str]] = defaultdict(set)
        by_cluster: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for row in rows.values():
            by_cluster[row["cluster"]].add((row["species_key"], row["gbif_id"]))
        for row in used.values():
            facts = known[row["gbif_id"]]
            together[row["species_key"], row["gbif_id"]].add(row["split"])
            if "observer-day" in group_by and facts["recorded_by"]:
                together[facts["recorded_by"], facts["event_date"]].add(row["split"])
            where = facts["decimal_latitude"], facts["decimal_longitude"]
            if "place" in group_by and where != (0, 0):
                together[where].add(row["split"])
        for cluster, occurrences in by_cluster.items():
            if cluster:
                sides = set().union(*(together[each] for each in occurrences))
                together["cluster", cluster] = sides
        assert {name: sides for name, sides in together.items() if len(sides) > 1} == {}


@pytest.mark.parametrize("group_by", [(), ("observer-day",), ("observer-day", "place")])
def test_what_is_in_test_is_never_trained_on_however_the_archive_grows(
    tmp_path: Path, group_by: tuple[str, ...]
) -> None:
    for seed in range(4):
        root, before = str(tmp_path / str(seed)), dict[str, str]()
        for num in (60, 140, 300):
            photos, known = world(seed, num)
            for folder in ("manifest", "images"):
                Storage(root).delete(folder)
            rows = chosen(store(root, photos, known=known), val=0.2, test=0.2, group_by=group_by)
            sides = {name: row["split"] for name, row in rows.items() if not row["reason"]}
            moved = {
                name: sides[name]
                for name, side in before.items()
                if side == "test" and sides.get(name, "test") != "test"
            }
            assert moved == {}
            # What was in test and is in none now became a copy, a conflict, or the last of its species.
            gone = {rows[name]["reason"] for name, side in before.items() if side == "test" and name not in sides}
            assert gone <= {"near_duplicate", "exact_duplicate", "conflict", "species_without_training_images"}
            assert sum(side == "test" for side in sides.values()) > 0.1 * len(sides)
            before = sides
            now = pl.Series([name for name, side in sides.items() if side == "test"], dtype=pl.String)
            tested.add(Workspace(root), SplitSettings(root=root, test=0.2, group_by=group_by), now)


def test_a_copy_of_what_was_in_test_is_not_trained_on(tmp_path: Path) -> None:
    """A freer copy takes the place of the photograph that was in test."""
    photos = plain(30)
    numbers = {name: number for number, (name, *_) in enumerate(photos)}
    known = {name: look_alike(name, number=number)[name] for name, number in numbers.items()}
    root = store(str(tmp_path), photos, known=known)
    was = [name for name, row in chosen(root).items() if row["split"] == "test"]
    tested.add(Workspace(root), SplitSettings(root=root), pl.Series(was))
    twins = [(f"{name}-twin", f"g{name}-twin", name[0]) for name in was]
    for twin, *_ in twins:
        known[twin] = look_alike("x", twin, number=numbers[twin.removesuffix("-twin")])[twin]
        known[twin]["license_id"] = "CC0-1.0"
    for folder in ("manifest", "images"):
        Storage(root).delete(folder)
    rows = chosen(store(root, [*photos, *twins], known=known))
    assert {rows[name]["reason"] for name in was} == {"near_duplicate"}
    assert {rows[twin]["split"] for twin, *_ in twins} == {"test"}


def test_a_group_is_drawn_once_however_many_are_in_it(tmp_path: Path) -> None:
    """Series of linked occurrences beside single ones: no more of them are in test."""
    photos, known = plain(400), dict[str, dict[str, Any]]()
    for series in range(100):
        for n in range(10):
            photos.append((f"{series}-{n}", f"g{series}-{n}", "a"))
            known[f"g{series}-{n}"] = look_alike("x", "y", number=series)["y"]
    rows = chosen(store(str(tmp_path), photos, known=known), max_distance=16, test=0.2, val=0.2)
    groups = {row["group"]: row["split"] for name, row in rows.items() if "-" in name and not row["reason"]}
    assert len(groups) == 100
    in_test = sum(side == "test" for side in groups.values())
    assert 8 <= in_test <= 32  # three standard deviations


def test_what_a_licence_or_a_dropped_row_hides_still_links_and_contradicts(tmp_path: Path) -> None:
    shared = "http://example.org/shared.jpg"
    photos = [
        *plain(), ("more0", "ga0", "a"), ("more1", "ga1", "a"), ("more3", "ga3", "a"), ("more4", "ga4", "a"),
        (schemas.image_id(shared), "ga3", "a"),
    ]  # fmt: skip
    known: dict[str, dict[str, Any]] = {name: {"license_id": "CC-BY-4.0"} for name, *_ in photos}
    for look in (look_alike("a0", "a1"), look_alike("a2", "b2", number=1)):
        for name, columns in look.items():
            known[name] |= columns
    for name in ("a0", "a1", "b2"):
        known[name]["license_id"] = "CC-BY-NC-4.0"
    root = store(str(tmp_path), photos, known=known)
    row = blank_row(schemas.DROPPED, url=shared, gbif_id="ga4", species_key="a", reason="duplicate_url")
    Storage(root).write_table(workspace.DROPPED, pa.Table.from_pylist([row], schemas.DROPPED))
    rows = chosen(root, license="open")
    assert rows["more0"]["group"] == rows["more1"]["group"]
    assert rows["more3"]["group"] == rows["more4"]["group"] != rows["more0"]["group"]
    assert reasons(rows) == {"a0": "license", "a1": "license", "a2": "conflict", "b2": "conflict"}


def test_reasons_are_asked_in_the_order_of_their_list(tmp_path: Path) -> None:
    photos = plain()
    known: dict[str, dict[str, Any]] = {name: {"license_id": "CC0-1.0"} for name, *_ in photos}
    for look in (look_alike("a0", "a1", "b1"), look_alike("a2", "a3", number=1)):
        for name, columns in look.items():
            known[name] |= columns
    known["a0"] |= {"title": "Label", "license_id": "unknown"}
    known["a1"] |= {"license_id": "unknown"}
    known["b4"] |= {"license_id": "unknown"}
    root = store(str(tmp_path / "r"), photos, known=known)
    (tmp_path / "s.csv").write_text("image_id,split\na3,train\na4,test\na5,train\nb2,train\nb3,test\n", "utf-8")
    rows = chosen(root, license="open", split_file=tmp_path / "s.csv")
    assert {name: rows[name]["reason"] for name in ("a0", "a1", "b1", "b4", "b5", "a2", "a3")} == {
        "a0": "label", "a1": "conflict", "b1": "conflict", "b4": "license", "b5": "not_in_split_file",
        "a2": "not_in_split_file", "a3": "",
    }  # fmt: skip


def test_images_of_an_earlier_version_have_no_hashes_and_are_used(tmp_path: Path) -> None:
    root = store(str(tmp_path), plain())
    table = Storage(root).read_table(workspace.IMAGES).drop_columns(["phash", "jpeg_sha256", "contrast"])
    Storage(root).write_table(f"{workspace.IMAGES}/0.parquet", table)
    assert reasons(chosen(root)) == {}
    assert not frame(root)["has_hash"].any()


def test_only_photographs_that_look_alike_are_compared_by_species(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To name the species of each photograph's cluster took most of the time, and memory for all their names."""
    store(str(tmp_path), plain(), known=look_alike("a0", "a1") | look_alike("a2", "b2", number=9))
    compared: list[int] = []

    def record(alike: pl.DataFrame) -> pl.Series:
        compared.append(len(alike))
        return contradictions(alike)

    monkeypatch.setattr(duplicates, "contradictions", record)
    assert reasons(chosen(tmp_path)) == {"a1": "near_duplicate", "a2": "conflict", "b2": "conflict"}
    assert compared == [4]  # of all photographs


def test_occurrences_are_read_for_groups_only_where_groups_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(str(tmp_path), plain())
    paths: list[str] = []
    read_table = Storage.read_table

    def record(storage: Storage, path: str, *rest: Any) -> pa.Table:
        paths.append(path)
        return read_table(storage, path, *rest)

    monkeypatch.setattr(Storage, "read_table", record)
    frame(tmp_path)
    assert workspace.OCCURRENCES not in paths
    frame(tmp_path, group_by=("place",))
    assert workspace.OCCURRENCES in paths
