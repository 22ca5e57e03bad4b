import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.dataset import card, choose
from aitax_ray.dataset.reasons import NOT_IN_MANIFEST, TOO_FEW_IMAGES
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.dataset.split import split
from aitax_ray.errors import DataError, MissingArtifactError, SettingsError
from aitax_ray.settings import StageSettings
from aitax_ray.storage import Storage
from aitax_ray.workspace import Outcome, Workspace
from tests.blank import blank_row
from tests.s3 import BUCKET, S3, share

Photo = tuple[str, str, str]  # image_id, gbif_id, species_key
# Species with 1, 2, 3, ... occurrences of 1 to 4 photographs each.
SPECIES = {f"s{num:02d}": num for num in (1, 2, 3, 4, 5, 8, 13, 40)}


def photos(species: dict[str, int] = SPECIES, seed: int = 0) -> list[Photo]:
    chance = random.Random(seed)
    return [
        (schemas.image_id(f"{key}/{occurrence}/{number}"), f"{key}-{occurrence}", key)
        for key, num_occurrences in species.items()
        for occurrence in range(num_occurrences)
        for number in range(chance.randint(1, 4))
    ]


def store(
    root: str,
    rows: Sequence[Photo],
    num_shards: int = 1,
    listed: Sequence[Photo] | None = None,
    known: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> str:
    """Make `download` complete with these photographs, in this order, in so many shards.

    The manifest holds the same, or what is `listed`. `known` are columns of any table for an image_id or a gbif_id.
    """

    def table(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        full = [blank_row(schema, **row) | {"phash": None} for row in rows]
        for row in full:
            row |= dict(known.get(row["gbif_id"], {})) | dict(known.get(row.get("image_id", ""), {}))
        return pa.Table.from_pylist(full, schema)

    rest = {"width": 400, "height": 300, "jpeg": b"", "contrast": 40.0}
    stored = [{"image_id": i, "gbif_id": g, "species_key": s, **rest} for i, g, s in rows]
    media = [{"image_id": i, "gbif_id": g, "species_key": s} for i, g, s in listed or rows]
    occurrences = {(g, s): {"gbif_id": g, "species_key": s} for _, g, s in listed or rows}.values()
    tables = [table(schemas.IMAGES, stored[shard::num_shards]) for shard in range(num_shards)]
    taxa = [blank_row(schemas.TAXA, species_key=key, name=f"Name {key}") for key in {s for _, _, s in listed or rows}]

    def list_them() -> Outcome:
        Storage(root).write_table(f"{workspace.MEDIA}/0.parquet", table(schemas.MEDIA, media))
        Storage(root).write_table(workspace.TAXA, pa.Table.from_pylist(taxa, schemas.TAXA))
        Storage(root).write_table(workspace.OCCURRENCES, table(schemas.OCCURRENCES, occurrences))
        Storage(root).write_table(workspace.DROPPED, schemas.DROPPED.empty_table())
        return Outcome()

    def work() -> Outcome:
        for number, table in enumerate(tables):
            Storage(root).write_table(f"{workspace.IMAGES}/{number}.parquet", table)
        listed_ids = {image_id for image_id, _, _ in listed or rows}
        ids = {image_id for image_id, _, _ in rows}
        return Outcome(counts={"ok": len(ids & listed_ids), "vanished": len(ids - listed_ids)})

    Workspace(root).run("manifest", StageSettings(root=root), (), list_them)
    Workspace(root).run("download", StageSettings(root=root), ("manifest",), work)
    return root


def rows_of(root: str) -> list[dict[str, Any]]:
    return Storage(root).read_table(workspace.SPLIT).to_pylist()


@pytest.fixture(autouse=True)
def without_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plots take seconds each; test_card.py draws it, also as part of the stage."""
    monkeypatch.setattr(card, "write_card", lambda *_: None)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return store(str(tmp_path / "root"), photos())


def test_the_tables_have_their_schemas_and_are_sorted(root: str) -> None:
    split(SplitSettings(root=root))
    assert Storage(root).read_table(workspace.SPLIT).schema.equals(schemas.SPLIT)
    assert Storage(root).read_table(workspace.EXCLUDED).schema.equals(schemas.EXCLUDED)
    ids = [row["image_id"] for row in rows_of(root)]
    assert ids == sorted(ids)


def test_every_photograph_is_either_split_or_excluded_with_a_reason(root: str) -> None:
    split(SplitSettings(root=root, min_images=5))
    excluded = Storage(root).read_table(workspace.EXCLUDED).to_pylist()
    both = [row["image_id"] for row in rows_of(root)] + [row["image_id"] for row in excluded]
    assert sorted(both) == sorted(image_id for image_id, _, _ in photos())
    assert {row["reason"] for row in excluded} == {TOO_FEW_IMAGES}


def test_photographs_that_are_no_longer_there_are_not_left_out_in_silence(tmp_path: Path) -> None:
    root = store(str(tmp_path), photos(), num_shards=3)
    split(SplitSettings(root=root))
    Storage(root).delete(f"{workspace.IMAGES}/1.parquet")
    with pytest.raises(DataError, match=r"holds \d+ photographs, and `download` stored \d+: run `aitax download"):
        split(SplitSettings(root=root))


def test_occurrence_never_straddles_the_split(root: str) -> None:
    split(SplitSettings(root=root, val=0.3, test=0.3, min_images=1))
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows_of(root):
        sides[row["gbif_id"]].add(row["split"])
    assert len(sides) == sum(SPECIES.values())
    assert {gbif_id: found for gbif_id, found in sides.items() if len(found) > 1} == {}


@pytest.mark.parametrize(("val", "test"), [(0.01, 0.01), (0.1, 0.1), (0.45, 0.5)])
def test_every_species_has_the_sides_its_occurrences_allow(root: str, val: float, test: float) -> None:
    split(SplitSettings(root=root, val=val, test=test, min_images=1))
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows_of(root):
        sides[row["species_key"]].add(row["split"])
    for key, num in SPECIES.items():
        assert sides[key] == {"train"} | ({"val"} if num >= 2 else set()) | ({"test"} if num >= 3 else set()), key


def test_the_classes_count_from_zero_in_the_order_of_the_species_keys(tmp_path: Path) -> None:
    keys = ["9", "10", "A2", "b", "5231190"]
    root = store(str(tmp_path), photos(dict.fromkeys(keys, 3)))
    split(SplitSettings(root=root))
    found = {row["species_key"]: row["class_index"] for row in rows_of(root)}
    assert found == {"10": 0, "5231190": 1, "9": 2, "A2": 3, "b": 4}


def test_an_excluded_species_leaves_no_gap_in_the_classes(tmp_path: Path) -> None:
    rows = [(f"{key}{n}", f"{key}{n}", key) for key, num in (("a", 5), ("b", 4), ("c", 5)) for n in range(num)]
    root = store(str(tmp_path), rows)
    report = split(SplitSettings(root=root, min_images=5))
    assert {row["species_key"]: row["class_index"] for row in rows_of(root)} == {"a": 0, "c": 1}
    assert report.reasons == {TOO_FEW_IMAGES: 4}
    assert {row["species_key"] for row in Storage(root).read_table(workspace.EXCLUDED).to_pylist()} == {"b"}


def test_what_a_photograph_shows_is_what_the_manifest_says_today(tmp_path: Path) -> None:
    rows = [(f"{key}{n}", f"{key}{n}", key) for key in "ab" for n in range(5)]
    today = [("a0", "other", "b"), *rows[1:-1]]  # one was identified anew, one is no longer there
    report = split(SplitSettings(root=store(str(tmp_path), rows, listed=today)))
    assert {(row["image_id"], row["gbif_id"], row["species_key"]) for row in rows_of(str(tmp_path))} == set(today)
    assert report.reasons == {NOT_IN_MANIFEST: 1}
    (gone,) = Storage(str(tmp_path)).read_table(workspace.EXCLUDED).to_pylist()
    expected = {"image_id": "b4", "gbif_id": "b4", "species_key": "b", "reason": NOT_IN_MANIFEST}
    assert gone == expected | {"detail": "", "cluster": ""}


def test_the_order_of_rows_and_the_number_of_shards_change_nothing(tmp_path: Path) -> None:
    results = []
    for number, num_shards in enumerate((1, 2, 7)):
        rows = photos()
        random.Random(number).shuffle(rows)
        root = store(str(tmp_path / str(number)), rows, num_shards)
        split(SplitSettings(root=root, min_images=9))
        results.append((Storage(root).sha256(workspace.SPLIT), Storage(root).sha256(workspace.EXCLUDED)))
    assert results[0] == results[1] == results[2]


def test_another_seed_gives_another_split(root: str) -> None:
    def sides(seed: int) -> dict[str, str]:
        split(SplitSettings(root=root, seed=seed))
        return {row["image_id"]: row["split"] for row in rows_of(root)}

    first = sides(0)
    assert sides(1) != first
    assert sides(0) == first


def test_one_species_does_not_change_how_another_is_split(tmp_path: Path) -> None:
    def sides(name: str, species: dict[str, int]) -> dict[str, str]:
        root = store(str(tmp_path / name), sorted({(g, g, s) for _, g, s in photos(species)}))
        split(SplitSettings(root=root))
        return {row["gbif_id"]: row["split"] for row in rows_of(root) if row["species_key"] == "x"}

    assert sides("one", {"x": 30, "y": 5}) == sides("other", {"a": 20, "x": 30})


def test_an_occurrence_of_two_species_is_split_within_each(tmp_path: Path) -> None:
    rows = [(f"{key}{n}", f"g{n}", key) for key in ("a", "b") for n in range(10)]
    root = store(str(tmp_path), rows)
    split(SplitSettings(root=root))
    assert len(rows_of(root)) == len({row["group"] for row in rows_of(root)}) == 20
    assert {(row["species_key"], row["split"]) for row in rows_of(root)} == {
        (key, side) for key in "ab" for side in ("train", "val", "test")
    }


def test_the_report_counts_what_is_on_each_side(root: str) -> None:
    report = split(SplitSettings(root=root, min_images=2))
    found = Counter(row["split"] for row in rows_of(root))
    species = {row["species_key"] for row in rows_of(root)}
    tested = {row["species_key"] for row in rows_of(root) if row["split"] == "test"}
    assert report.counts == {
        **found,
        "species": len(species),
        "species_with_test_images": len(tested),
        "groups": len({row["gbif_id"] for row in rows_of(root)}),
        "groups_on_several_sides": 0,
    }


def test_shares_of_zero_leave_all_to_training(root: str) -> None:
    report = split(SplitSettings(root=root, val=0, test=0))
    assert {row["split"] for row in rows_of(root)} == {"train"}
    assert report.counts["val"] == report.counts["test"] == 0


def test_no_species_with_enough_photographs_says_what_to_do(tmp_path: Path) -> None:
    root = store(str(tmp_path), photos({"a": 3, "b": 3}))
    with pytest.raises(DataError, match=r"no species has 500 or more photographs.*lower --min-images"):
        split(SplitSettings(root=root, min_images=500))
    assert Workspace(root).report("split") is None


def test_a_single_species_says_what_to_do(tmp_path: Path) -> None:
    root = store(str(tmp_path), photos({"a": 9}))
    with pytest.raises(DataError, match=r"only one species \(a\) has photographs: .*widen the query"):
        split(SplitSettings(root=root))


def test_a_single_species_with_enough_photographs_says_how_many_have_too_few(tmp_path: Path) -> None:
    root = store(
        str(tmp_path), [(f"{k}{n}", f"{k}{n}", k) for k, num in (("a", 9), ("b", 3), ("c", 2)) for n in range(num)]
    )
    with pytest.raises(
        DataError, match=r"2 others have none that can be used \(left out: 5 species_with_too_few_images\)"
    ):
        split(SplitSettings(root=root, min_images=5))


def test_no_photographs_at_all_say_what_to_do(tmp_path: Path) -> None:
    root = store(str(tmp_path), [])
    with pytest.raises(DataError, match="no species has 2 or more photographs"):
        split(SplitSettings(root=root))


def test_without_a_download_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifactError, match="run `aitax download"):
        split(SplitSettings(root=str(tmp_path)))


def test_what_was_in_test_stays_there_when_the_archive_grows(tmp_path: Path) -> None:
    few = photos({"a": 3, "b": 3, "c": 5})
    many = [*few, *((schemas.image_id(f"{key}/more/{n}"), f"more-{key}-{n}", key) for key in "abd" for n in range(20))]
    root = store(str(tmp_path), few)
    split(SplitSettings(root=root))
    tested = {row["image_id"] for row in rows_of(root) if row["split"] == "test"}
    for stage in ("manifest", "download"):
        Workspace(root).clear(stage)
    store(root, many)
    split(SplitSettings(root=root))
    sides = {row["image_id"]: row["split"] for row in rows_of(root)}
    assert len(sides) > 2 * len(few)
    assert {sides[name] for name in tested} == {"test"}


def test_people_are_told_of_what_they_should_look_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alike = {f"a{n}": {"phash": bytes(31) + bytes([n % 4])} for n in range(60)}
    rows = [(f"{key}{n}", f"g{key}{n}", key) for key in "ab" for n in range(60)]
    day = {f"gb{n}": {"recorded_by": "Ann", "event_date": "2020-05-01"} for n in range(60)}
    split(SplitSettings(root=store(str(tmp_path), rows, known=alike | day), group_by=("observer-day",), min_images=1))
    assert "of 60 photographs no hash is known" in caplog.text
    assert "60 photographs, such as a0, are taken for copies of each other" in caplog.text
    assert "one group holds 60 of 61 photographs, so shares cannot be kept" in caplog.text


def test_a_split_file_that_names_nothing_stored_says_so(tmp_path: Path) -> None:
    root = store(str(tmp_path / "r"), photos())
    (tmp_path / "s.csv").write_text("gbif_id,split\nno-such,train\n", "utf-8")
    with pytest.raises(DataError, match="--split-file names no photograph that can be used"):
        split(SplitSettings(root=root, split_file=tmp_path / "s.csv"))


def test_a_split_file_that_cannot_be_read_leaves_what_is_there(root: str, tmp_path: Path) -> None:
    report = split(SplitSettings(root=root))
    (tmp_path / "s.csv").write_text("gbif_id,side\n1,train\n", "utf-8")
    with pytest.raises(SettingsError, match="--split-file"):
        split(SplitSettings(root=root, split_file=tmp_path / "s.csv"))
    assert Workspace(root).report("split") == report


def test_neither_other_settings_nor_somebody_elses_split_change_what_is_in_test(root: str, tmp_path: Path) -> None:
    split(SplitSettings(root=root))
    sides = {row["image_id"]: row["split"] for row in rows_of(root)}
    split(SplitSettings(root=root, seed=1))
    theirs = tmp_path / "s.csv"
    rows = [f"{name},{'test' if number % 2 else 'train'}\n" for number, name in enumerate(sides)]
    theirs.write_text("image_id,split\n" + "".join(rows), "utf-8")
    split(SplitSettings(root=root, split_file=theirs))
    split(SplitSettings(root=root))
    assert {row["image_id"]: row["split"] for row in rows_of(root)} == sides


def test_rows_of_the_manifest_with_one_image_id_are_an_error_and_not_more_photographs(tmp_path: Path) -> None:
    rows = photos({"a": 6, "b": 6})
    root = store(str(tmp_path), rows, listed=[*rows, rows[0], rows[0]])
    with pytest.raises(DataError, match=r"manifest/media has 3 rows with the image_id .*run `aitax manifest --force`"):
        split(SplitSettings(root=root))


def test_taxa_with_one_key_are_an_error_and_not_more_photographs(tmp_path: Path) -> None:
    root = store(str(tmp_path), photos({"a": 6, "b": 6}))
    storage = Storage(root)
    taxa = storage.read_table(workspace.TAXA)
    storage.write_table(workspace.TAXA, pa.concat_tables([taxa, taxa]))
    with pytest.raises(DataError, match=r"manifest/taxa\.parquet has several rows with the species_key"):
        split(SplitSettings(root=root))


MACHINE, DISPUTED = {"identified_by": "BirdNET 2.4"}, {"identification_status": "doubtful"}
CHECKED = {"identification_status": "verified by specialist"}


def marked(folder: Path, labels: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split two species: of each 12 occurrences of people, 6 checked, 6 of a machine, 2 disputed; 2 photographs each.

    Returns the reasons and the rows by image_id, whose first letter says who identified the photograph.
    """
    kinds = {"p": (12, {}), "c": (6, CHECKED), "m": (6, MACHINE), "d": (2, DISPUTED)}
    rows, known = [], {}
    for key in ("a", "b"):
        for kind, (num, columns) in kinds.items():
            for number in range(num):
                rows += [(f"{kind}{key}{number}-{shot}", f"{kind}{key}{number}", key) for shot in range(2)]
                known[f"{kind}{key}{number}"] = columns
    root = store(str(folder), rows, known=known)
    report = split(SplitSettings(root=root, labels=labels, val=0.3, test=0.3))
    return report.reasons, {row["image_id"]: row for row in rows_of(root)}


def test_labels_of_machines_and_disputed_ones_teach_with_half_the_weight_and_never_test(tmp_path: Path) -> None:
    reasons, rows = marked(tmp_path, "weighted")
    assert reasons == {}
    assert len(rows) == 2 * 2 * 26
    for name, row in rows.items():
        doubtful = name[0] in "md"
        assert row["trust"] == {"p": "unknown", "c": "verified", "m": "machine", "d": "disputed"}[name[0]]
        assert row["weight"] == (0.5 if doubtful else 1)
        assert not doubtful or row["split"] == "train", name
    tested = [name for name, row in rows.items() if row["split"] == "test"]
    assert len(tested) > 10


def test_the_other_ways_to_take_labels(tmp_path: Path) -> None:
    reasons, rows = marked(tmp_path / "any", "any")
    assert (reasons, {row["weight"] for row in rows.values()}) == ({}, {1})
    assert {row["split"] for name, row in rows.items() if name[0] == "m"} == {"train", "val", "test"}
    reasons, rows = marked(tmp_path / "not", "not-machine")
    assert reasons == {"machine_label": 24}
    assert {name[0] for name in rows} == {"p", "c", "d"}
    assert {(row["split"], row["weight"]) for name, row in rows.items() if name[0] == "d"} == {("train", 0.5)}
    reasons, rows = marked(tmp_path / "verified", "verified")
    assert reasons == {"not_verified": 80}
    assert {name[0] for name in rows} == {"c"}


def test_a_machine_does_not_contradict_a_person(tmp_path: Path) -> None:
    """A photograph of "a" stands also under "b", by a machine."""
    rows = [(f"{key}{n}", f"{key}{n}", key) for key in "ab" for n in range(4)]
    rows += [("copy", "copy", "b"), ("lone", "lone", "a")]
    known = {"copy": {"jpeg_sha256": "same", **MACHINE}, "a0": {"jpeg_sha256": "same"}}
    for labels, doubted in (("weighted", {"copy"}), ("any", {"copy", "a0"})):
        root = store(str(tmp_path / labels), rows, known=known)
        report = split(SplitSettings(root=root, labels=labels))
        assert report.reasons == {"conflict": len(doubted)}
        assert {name for name, *_ in rows} - {row["image_id"] for row in rows_of(root)} == doubted


def test_a_bound_per_species_keeps_the_labels_that_are_believed(tmp_path: Path) -> None:
    rows = [(f"{kind}{key}{n}", f"{kind}{key}{n}", key) for key in "ab" for kind in "mp" for n in range(8)]
    root = store(str(tmp_path), rows, known={name: MACHINE for name, *_ in rows if name[0] == "m"})
    split(SplitSettings(root=root, max_images=10))
    assert Counter(row["image_id"][:2] for row in rows_of(root)) == {"pa": 8, "pb": 8, "ma": 2, "mb": 2}


def test_labels_are_judged_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, expected = marked(tmp_path / "whole", "weighted")
    monkeypatch.setattr(choose, "NUM_ROWS", 5)
    assert marked(tmp_path / "parts", "weighted")[1] == expected


def test_a_doubtful_label_in_a_group_that_tests_is_left_out(tmp_path: Path) -> None:
    """Groups of an observer's day hold labels of people and of machines."""
    rows, known = [], {}
    for key in ("a", "b"):
        for day in range(10):
            for kind, columns in (("p", {}), ("m", MACHINE)):
                name = f"{kind}{key}{day}"
                rows.append((name, name, key))
                known[name] = {"recorded_by": "Ann", "event_date": f"2020-01-{10 + day + 10 * (key == 'b')}", **columns}
    root = store(str(tmp_path), rows, known=known)
    report = split(SplitSettings(root=root, group_by=("observer-day",), val=0.3, test=0.3))
    rest = {row["image_id"]: row for row in rows_of(root)}
    sides = Counter(rest[name]["split"] for name, *_ in rows if name[0] == "p")
    assert min(sides["val"], sides["test"]) >= 2
    assert report.reasons == {"doubtful_label": sides["val"] + sides["test"]}
    for key in ("a", "b"):
        for day in range(10):
            assert (f"m{key}{day}" in rest) == (rest[f"p{key}{day}"]["split"] == "train")


def test_a_manifest_of_an_earlier_version_does_not_tell_who_identified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = [field for field in schemas.OCCURRENCES if not field.name.startswith("identif")]
    with monkeypatch.context() as patched:
        patched.setattr(schemas, "OCCURRENCES", pa.schema(earlier))
        root = store(str(tmp_path), photos())
    split(SplitSettings(root=root))
    assert {(row["trust"], row["weight"]) for row in rows_of(root)} == {("unknown", 1)}


def test_the_tables_are_written_in_parts_with_the_same_rows(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split(SplitSettings(root=root, min_images=5))
    storage, paths = Storage(root), (workspace.SPLIT, workspace.EXCLUDED)
    before = [storage.read_table(path) for path in paths]
    monkeypatch.setattr("aitax_ray.dataset.split.ROWS_AT_ONCE", 3)
    split(SplitSettings(root=root, min_images=5, force=True))
    assert [storage.read_table(path) for path in paths] == before
    assert pq.ParquetFile(storage.full(workspace.SPLIT)).num_row_groups > 1


def test_on_s3_it_gives_what_it_gives_on_a_disk_although_requests_fail(s3: S3, tmp_path: Path) -> None:
    few = {"s08": 8, "s13": 13}
    roots = [store(f"{base}/few", photos(few)) for base in (f"s3://{BUCKET}/{tmp_path.name}", tmp_path)]
    s3.requests.clear()
    s3.choose = share(10, 60)
    assert split(SplitSettings(root=roots[0])).counts == split(SplitSettings(root=roots[1])).counts
    s3.choose = lambda number: ""
    assert {fault for _, _, fault in s3.requests} > {"", "throttle", "error"}
    with_faults = s3.counts()
    on_s3, on_disk = (Storage(root).read_table(workspace.SPLIT) for root in roots)
    assert on_s3.equals(on_disk)
    more = store(f"s3://{BUCKET}/{tmp_path.name}/more", photos({key: 4 * number for key, number in few.items()}))
    s3.requests.clear()
    split(SplitSettings(root=more))
    for kind in ("LIST", "HEAD", "GET"):  # follows the number of files, not that of photographs
        assert s3.counts()[kind] <= with_faults[kind]
