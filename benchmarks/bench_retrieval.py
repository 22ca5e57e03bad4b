"""Measures what an answer's similar photographs cost, and what an index costs to load and to hold in memory.

The claims, for 500,000 photographs of 3,000 species and embeddings of 512 numbers: the photographs of 20 listed species
take less than 15 ms on one core, also where some of the species have tens of thousands of photographs; the index is
loaded in less than 10 s; photographs beyond the shown ones cost no memory but the system's cache of files.

The photographs per species follow Zipf's law. Within a species the embeddings are a cloud of 24 dimensions in 512, plus
noise. An answer lists the species whose means are most similar to the photograph (near), or it lists the largest ones
for a photograph of one of them (large). The peer for the search within a species is numpy on float32. Times are
processor time, since other work on the machine changes the wall time; that of the median answer is given beside it.

    python benchmarks/bench_retrieval.py [--photographs 500000] [--species 3000] [--shards 1] [--folder FOLDER]
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from aitax_ray import schemas
from aitax_ray.index.search_info import SearchInfo, summarise
from aitax_ray.index.shards import Index, write_shard
from aitax_ray.serving import gallery as serving
from aitax_ray.serving.gallery import Gallery

SIZE, LATENT, LISTED, SHOWN, QUERIES = 512, 24, 20, 6, 200
THUMBNAIL = 6_000  # bytes; the file is sparse


def sizes_of(num_photographs: int, num_species: int) -> np.ndarray:
    """Draw the photographs per species by Zipf's law, in a random order."""
    share = 1 / np.arange(1, num_species + 1)
    sizes = np.maximum(1, (share / share.sum() * num_photographs).astype(int))
    return np.random.default_rng(0).permutation(sizes)


def draw(class_index: int, num: int, seed: int) -> np.ndarray:
    """Draw unit vectors of a species, float32 (num, SIZE)."""
    of_species, rng = np.random.default_rng([1, class_index]), np.random.default_rng([seed, class_index])
    centre, basis = of_species.normal(size=SIZE), of_species.normal(size=(LATENT, SIZE)) / LATENT**0.5
    found = centre + rng.normal(size=(num, LATENT)) @ basis + 0.2 * rng.normal(size=(num, SIZE))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def write_index(folder: Path, sizes: np.ndarray, num_shards: int) -> None:
    """Write the shards."""
    classes = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.concatenate([draw(number, size, 2).astype(np.float16) for number, size in enumerate(sizes)])
    for number, part in enumerate(np.array_split(np.arange(len(classes)), num_shards)):
        place = folder / f"{number:05}"
        write_shard(place, rows(part, classes[part]), vectors[part])
        with (place / "thumbnails.bin").open("wb") as file:
            file.truncate(THUMBNAIL * len(part))


def rows(numbers: np.ndarray, classes: np.ndarray) -> pa.Table:
    """Make rows of schemas.INDEX_ROWS, with texts as long as real ones."""
    keys = [hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest() for n in numbers]
    text = {
        "image_id": keys,
        "species_key": [str(2_000_000 + n) for n in classes],
        "split": ["train"] * len(keys),
        "gbif_id": [str(3_000_000_000 + n // 2) for n in numbers],
        "url": [f"https://inaturalist-open-data.s3.amazonaws.com/photos/{n}/original.jpeg" for n in numbers],
        "license": ["http://creativecommons.org/licenses/by-nc/4.0/"] * len(keys),
        "license_id": ["CC-BY-NC-4.0"] * len(keys),
        "creator": [f"Observer {n % 5000}" for n in numbers],
        "rights_holder": [f"Observer {n % 5000}" for n in numbers],
        "publisher": ["iNaturalist.org"] * len(keys),
        "event_date": ["2021-05-17T10:30:00"] * len(keys),
        "references": [f"https://www.inaturalist.org/photos/{n}" for n in numbers],
    }
    columns = {name: pa.array(values) for name, values in text.items()} | {
        "class_index": pa.array(classes, pa.int32()),
        "is_at_gbif": pa.array(np.ones(len(keys), bool)),
        "is_shown": pa.array(np.ones(len(keys), bool)),
        "thumbnail_offset": pa.array(np.arange(len(keys)) * THUMBNAIL),
        "thumbnail_length": pa.array(np.full(len(keys), THUMBNAIL), pa.int32()),
    }
    return pa.table(columns, schemas.INDEX_ROWS)


def memory() -> dict[str, float]:
    """This process's memory in MB: of its own, and with its share of the files that are mapped."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in text.splitlines()[1:]}
    return {"own": found["Anonymous"], "pss": found["Pss"]}


def measure(folder: Path, sizes: np.ndarray) -> dict[str, float]:
    """Load the index in this process, and measure it."""
    begin = time.perf_counter()
    for path in folder.rglob("*"):  # as an engine is loaded
        if path.is_file() and path.name != "thumbnails.bin":
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")
    checked_s, before = time.perf_counter() - begin, memory()
    begin = time.perf_counter()
    folders = sorted(folder.iterdir())
    report = summarise([SearchInfo.read(path) for path in folders])
    index = Index(folders)
    index.search(np.zeros((1, SIZE), np.float32), 1)  # its search is loaded when it is first used
    searched_s, searched = time.perf_counter() - begin, memory()
    gallery = Gallery(index, len(sizes))
    after = memory()
    found = {
        "load s": time.perf_counter() - begin + checked_s,
        "of it the checksums' s": checked_s,
        "of it the search's s": searched_s,
        "own MB": after["own"] - before["own"],
        "of it the search's MB": searched["own"] - before["own"],
        "reported MB": len(index) * float(report["bytes_per_photograph"] or 0) / 1e6,
        "pss MB": after["pss"] - before["pss"],
    }
    means = np.concatenate([draw(number, 8, 2).mean(axis=0, keepdims=True) for number in range(len(sizes))])
    rng, largest = np.random.default_rng(3), np.argsort(-sizes, kind="stable")[:LISTED]
    answers, asked = {}, {}
    for name, candidates in (("near", np.arange(len(sizes))), ("large", largest)):
        probability = sizes[candidates] / sizes[candidates].sum()
        queries = [draw(number, 1, 4) for number in rng.choice(candidates, QUERIES, p=probability)]
        classes = [candidates[np.argsort(-(means[candidates] @ query[0]))[:LISTED]].tolist() for query in queries]
        asked[name] = queries, classes
        found |= {f"{name} {key}": value for key, value in timed(gallery, queries, classes).items()}
        answers[name] = [gallery.illustrate(q, c, SHOWN) for q, c in zip(queries[:40], classes[:40], strict=True)]
        found[f"{name} photographs"] = float(np.median([sizes[c].sum() for c in classes]))
    serving.MAX_COMPARED = sizes.sum()
    for name, (queries, classes) in asked.items():
        exact = [gallery.illustrate(q, c, SHOWN) for q, c in zip(queries[:40], classes[:40], strict=True)]
        found[f"{name} recall"] = recall(answers[name], exact)
        found[f"{name} recall of the first species"] = recall([a[:1] for a in answers[name]], [e[:1] for e in exact])
    found["numpy large p50 ms"] = within_numpy(index, queries[0], largest.tolist())
    begin = time.process_time()
    for shard in index.shards:
        for key in shard.rows["image_id"][:: max(1, len(shard) // 500)].to_pylist():
            assert gallery.picture(key) is not None
    found["picture ms"] = 1000 * (time.process_time() - begin) / (500 * len(index.shards))
    return found


def timed(gallery: Gallery, queries: list[np.ndarray], classes: list[list[int]]) -> dict[str, float]:
    """Measure ms per answer: the first one reads files, and is not counted."""
    wall, cpu = [], []
    for query, listed in zip([queries[0], *queries], [classes[0], *classes], strict=True):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        gallery.illustrate(query, listed, SHOWN)
        cpu.append(1000 * (time.process_time() - begin_cpu))
        wall.append(1000 * (time.perf_counter() - begin))
    return {
        "first wall ms": wall[0],
        "p50 ms": float(np.median(cpu[1:])),
        "p95 ms": float(np.quantile(cpu[1:], 0.95)),
        "p50 wall ms": float(np.median(wall[1:])),
    }


def recall(answers: list[list[list[serving.Illustration]]], exact: list[list[list[serving.Illustration]]]) -> float:
    """The share of the exact answers' photographs that are in the answers."""
    pairs = [(a, e) for one, other in zip(answers, exact, strict=True) for a, e in zip(one, other, strict=True)]
    same = sum(len({i.image_id for i in a} & {i.image_id for i in e}) for a, e in pairs)
    return same / sum(len(e) for _, e in pairs)


def within_numpy(index: Index, query: np.ndarray, classes: list[int]) -> float:
    """Measure the ms that numpy takes to compare a photograph with those of these classes."""
    taken = []
    for _ in range(5):
        begin = time.process_time()
        for class_index in classes:
            for number, first, after in index.ranges_of(class_index):
                similarities = index.shards[number].vectors[first:after].astype(np.float32) @ query[0]
                np.argsort(-similarities)[:SHOWN]
        taken.append(1000 * (time.process_time() - begin))
    return float(np.median(taken))


def main() -> None:
    """Write an index, measure it in a process of its own on one core, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=500_000)
    parser.add_argument("--species", type=int, default=3_000)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the index is kept, and found again")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = sizes_of(given.photographs, given.species)
    if given.measure:
        sys.stdout.write(json.dumps(measure(given.measure, sizes)))
        return
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        begin = time.perf_counter()
        if not folder.exists() or not any(folder.iterdir()):
            write_index(folder, sizes, given.shards)
        print(f"{sizes.sum():,} photographs of {len(sizes):,} species, written in {time.perf_counter() - begin:.0f} s")  # noqa: T201
        command = [*([sys.executable, __file__, *sys.argv[1:]]), "--measure", str(folder)]
        one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        done = subprocess.run(command, env=os.environ | one_core, stdout=subprocess.PIPE, check=True)
        for name, value in json.loads(done.stdout).items():
            print(f"{name:40}{value:12,.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
