"""Builds the search of a shard from its vectors: ScaNN's tree, its leaves for other platforms, and search.json.

folder/vectors.npy  INPUT:  float16 (N, D), unit vectors
folder/search.json  OUTPUT: how they are searched, see SearchInfo
folder/scann/       OUTPUT: ScaNN's files, and the leaves (aitax_ray.index.leaves): from MIN_FOR_TREE vectors on
"""

import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aitax_ray.errors import SettingsError
from aitax_ray.index import compression, leaves, scann_tree
from aitax_ray.index.leaves import Leaves
from aitax_ray.index.scann_tree import ScannTree
from aitax_ray.index.search_info import SEARCH, Asked, Measured, Scann, SearchInfo, Tree
from aitax_ray.index.searcher import SCANN_ROWS, VECTORS, Searcher
from aitax_ray.index.tune import CANDIDATES, MEASURED_FOR, TUNED_FOR, Choice, HeldOut, choose, ladder

log = logging.getLogger(__name__)

# With fewer vectors, comparing with each of them takes well under a millisecond.
MIN_FOR_TREE = 5_000
RECALL = 0.95  # the recall@10 that is aimed at when none is asked for
NUM_TIMED, NUM_TIMED_EXACT = 500, 20  # queries whose time is measured


@dataclass(frozen=True)
class SearchOptions:
    """How to search, see IndexSettings. None: chosen from the vectors."""

    leaves: int | None = None
    leaves_to_search: float | None = None
    reorder: int | None = None
    compression: float | None = None
    recall: float | None = None
    memory: int | None = None
    num_vectors: int = 0
    """Number of vectors of all shards, which share the memory. 0: those of this one."""

    @property
    def asked(self) -> Asked:
        """What search.json keeps of the options."""
        return Asked(recall=self.recall, leaves_to_search=self.leaves_to_search, reorder=self.reorder)

    def bytes_per_vector(self, num: int) -> float:
        """Give the memory for each vector of a shard of `num`."""
        return np.inf if self.memory is None else self.memory / (self.num_vectors or num)


def build_index(folder: Path, options: SearchOptions | None = None) -> SearchInfo:
    """Build the search of the vectors in folder/vectors.npy, N >= 1, into the same folder.

    Raises SettingsError when the recall or the memory that was asked for is not reached.
    """
    begin, options = time.perf_counter(), options or SearchOptions()
    clear(folder)
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    num, size = vectors.shape
    info = SearchInfo(
        num_rows=num,
        dimensions=size,
        scann=None,
        tree=None,
        compression=None,
        measured=NOTHING,
        asked=options.asked,
    )
    if num >= MIN_FOR_TREE:
        number = min(options.leaves or scann_tree.default_leaves(num), num)
        info = (_build_scann if scann_tree.is_available() else _build_leaves)(folder, info, vectors, number, options)
    return finish(folder, info, options, begin)


def fits_in_memory(num: int, size: int, options: SearchOptions) -> bool:
    """Say whether ScaNN may keep `num` vectors in memory: 2 bytes for each of `size` numbers, codes and leaves."""
    return not options.compression and bytes_in_memory(size) <= options.bytes_per_vector(num)


def bytes_in_memory(size: int) -> float:
    """Give the memory that ScaNN takes per vector of `size` numbers when it keeps the vectors."""
    return 2.4 * size + 8


def _build_scann(
    folder: Path, info: SearchInfo, vectors: np.ndarray, number: int, options: SearchOptions
) -> SearchInfo:
    num, size = vectors.shape
    if options.compression:
        projection, info_of_it = compression.fit(vectors, options.compression)
        np.save(folder / compression.PROJECTION, projection)
        info = info.model_copy(update={"compression": info_of_it})
        rows = compression.project(vectors, projection)
    else:
        rows = vectors.astype(np.float32)
    in_memory = fits_in_memory(num, size, options)
    tree = ScannTree.build(rows, number, in_memory)
    tree.write(folder)
    Leaves.of(vectors, np.load(folder / scann_tree.SCANN / scann_tree.TOKENS)).write(folder)
    searched = Scann(leaves=number, leaves_to_search=number, reorder=100, in_memory=in_memory, build_size=num)
    return info.model_copy(update={"scann": searched, "tree": Tree(leaves=number, leaves_to_search=number)})


def _build_leaves(
    folder: Path, info: SearchInfo, vectors: np.ndarray, number: int, options: SearchOptions
) -> SearchInfo:
    if options.compression or options.reorder:
        log.info("ScaNN is not installed here: --compression and --reorder change nothing")
    Leaves.of(vectors, leaves.cluster(vectors, number)).write(folder)
    return info.model_copy(update={"tree": Tree(leaves=number, leaves_to_search=number)})


def finish(folder: Path, info: SearchInfo, options: SearchOptions, begin: float) -> SearchInfo:
    """Choose what is searched, measure it, and write search.json.

    Raises SettingsError when the recall or the memory that was asked for is not reached.
    """
    info.write(folder)
    vectors = np.load(folder / VECTORS, mmap_mode="r")
    held_out = HeldOut.draw(vectors)
    target, leaf_recall = options.recall or RECALL, 1.0
    if info.tree:
        info, leaf_recall = _choose_leaves(folder, info, held_out, options, target)
    chosen = None
    if info.scann:
        chosen = _choose_scann(folder, info, held_out, options, target)
        update = {"leaves_to_search": chosen.leaves_to_search, "reorder": chosen.reorder}
        info = info.model_copy(update={"scann": info.scann.model_copy(update=update)})
    info.write(folder)
    info = measure(folder, info, held_out, leaf_recall, begin)
    info.write(folder)
    _check_memory(info, options)
    _check_recall(folder, info, held_out, options)
    return info


def _choose_leaves(
    folder: Path, info: SearchInfo, held_out: HeldOut, options: SearchOptions, target: float
) -> tuple[SearchInfo, float]:
    """Choose how many leaves are searched without ScaNN, and give their recall@10."""
    assert info.tree is not None
    found = Leaves.read(folder, info.num_rows)
    number = len(found.centres)
    ranks = found.ranks(held_out.queries, held_out.truth[0][:, :TUNED_FOR])
    steps = [max(1, round(number * options.leaves_to_search))] if options.leaves_to_search else list(ladder(number))
    recalls = [(ranks < step).mean(axis=1) for step in steps]
    reached = (n for n, each in enumerate(recalls) if each.mean() - each.std() / np.sqrt(len(each)) >= target)
    place = next(reached, len(steps) - 1)
    tree = Tree(leaves=number, leaves_to_search=steps[place])
    return info.model_copy(update={"tree": tree}), float(recalls[place].mean())


def _choose_scann(folder: Path, info: SearchInfo, held_out: HeldOut, options: SearchOptions, target: float) -> Choice:
    assert info.scann is not None
    number = info.scann.leaves
    by_hand = [max(1, round(number * options.leaves_to_search))] if options.leaves_to_search else list(ladder(number))
    return choose(
        Searcher(folder, info.num_rows).search_scann,
        held_out,
        target,
        by_hand,
        [options.reorder] if options.reorder else CANDIDATES,
        info.num_rows / number,
    )


def measure(folder: Path, info: SearchInfo, held_out: HeldOut, leaf_recall: float, begin: float) -> SearchInfo:
    """Measure the search in the folder; `begin` is when its build began, in seconds of time.perf_counter."""
    searcher = Searcher(folder, info.num_rows)
    recalls = dict.fromkeys(MEASURED_FOR, 1.0)
    if searcher.method != "exact":
        recalls = {k: float(held_out.recalls(searcher.search(held_out.queries, k + 1)[0]).mean()) for k in MEASURED_FOR}
    timed = held_out.queries[: NUM_TIMED_EXACT if searcher.method == "exact" else NUM_TIMED]
    searcher.search(timed[:1], TUNED_FOR)
    start = time.perf_counter()
    for query in timed:
        searcher.search(query[None], TUNED_FOR)
    now = time.perf_counter()
    held = scann_tree.memory_of(folder) if info.scann else leaves.memory_of(folder) if info.tree else 0
    measured = Measured(
        queries=len(held_out.rows),
        **{f"recall_at_{k}": value for k, value in recalls.items()},
        queries_per_second=len(timed) / max(now - start, 1e-9),
        bytes_per_vector=held / info.num_rows,
        build_s=now - begin,
        leaves_recall_at_10=leaf_recall,
    )
    return info.model_copy(update={"measured": measured})


def _check_memory(info: SearchInfo, options: SearchOptions) -> None:
    needed, limit = info.measured.bytes_per_vector, options.bytes_per_vector(info.num_rows)
    if needed <= limit:
        return
    total = needed * (options.num_vectors or info.num_rows)
    raise SettingsError(
        f"the search needs {total / 1e6:.3g} MB of memory, more than --memory allows: set --memory "
        f"{np.ceil(total / 1e3):.0f}kB, or a smaller --compression"
    )


def _check_recall(folder: Path, info: SearchInfo, held_out: HeldOut, options: SearchOptions) -> None:
    found = info.measured.recall_at_10
    if options.recall is None or found >= options.recall:
        return
    free = replace(options, leaves_to_search=None, reorder=None)
    remedy = f"set --recall {np.floor(100 * found) / 100:.2f}"
    if info.scann and free != options:
        better = _choose_scann(folder, info, held_out, free, options.recall)
        if better.recall >= options.recall:
            share = np.ceil(1000 * better.leaves_to_search / info.scann.leaves) / 1000
            remedy = f"set --leaves-to-search {share:.3f} and --reorder {better.reorder}, or leave both out"
    elif info.compression:
        remedy += ", a larger --compression, or more --memory"
    raise SettingsError(
        f"the search finds {found:.3f} of the 10 nearest, less than --recall {options.recall}: {remedy}"
    )


def clear(folder: Path) -> None:
    """Delete an earlier search from a folder."""
    shutil.rmtree(folder / scann_tree.SCANN, ignore_errors=True)
    for name in (SEARCH, SCANN_ROWS, compression.PROJECTION, *leaves.NAMES):
        (folder / name).unlink(missing_ok=True)


NOTHING = Measured(
    queries=0,
    recall_at_1=0,
    recall_at_10=0,
    recall_at_100=0,
    queries_per_second=0,
    bytes_per_vector=0,
    build_s=0,
    leaves_recall_at_10=0,
)
