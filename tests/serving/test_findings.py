"""serving.findings: the parts of an index give the answer of the whole."""

from pathlib import Path

import numpy as np
import pytest

from aitax_ray.evaluation.neighbors import Vote
from aitax_ray.index.shards import Index
from aitax_ray.serving.findings import choose, find_firsts, join_illustrations, join_nearest, num_neighbors
from aitax_ray.serving.gallery import Gallery
from tests.serving.galleries import key, write_shards

SIZES = (1, 40, 0, 12, 3)  # photographs per class
ENDS = (7, 8, 25, 42)  # of shards: the class of 40 photographs lies in four of them


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_an_index_give_the_answer_of_the_whole(tmp_path: Path, seed: int) -> None:
    rng, num = np.random.default_rng(seed), sum(SIZES)
    cosines = [rng.uniform(-1, 1, size).tolist() for size in SIZES]
    cosines[1][5:30:4] = [0.123] * 7  # the same photograph, again and again
    # Occurrences have photographs in several shards, some have no name.
    columns = {"is_shown": (rng.random(num) < 0.8).tolist(), "gbif_id": rng.choice(["", *"abcdefghi"], num).tolist()}
    folders = write_shards(tmp_path, cosines, ENDS, **columns)
    withdrawn = [key(number) for number in rng.choice(num, 5, replace=False)]

    def gallery(first: int, after: int) -> Gallery:
        made = Gallery(Index(folders[first:after]), len(SIZES))
        made.withdraw(withdrawn)
        return made

    whole = gallery(0, 5)
    for parts in (
        [whole],
        [gallery(0, 2), gallery(2, 5)],
        [gallery(n, n + 1) for n in range(5)],
        [gallery(0, 0), whole],
    ):
        for queries in (np.array([[1, 0, 0]], np.float32), rng.normal(size=(4, 3)).astype(np.float32)):
            for per_class in (1, 4, 50):
                found = [part.find_similar(queries, [3, 2, 1, 0, 4], per_class) for part in parts]
                expected = whole.illustrate(queries, [3, 2, 1, 0, 4], per_class)
                assert join_illustrations(found, per_class) == expected
            for vote in (Vote(), Vote(share=0.3, power=0.5, num_neighbors=20), Vote(share=0.3, num_neighbors=500)):
                nearest = [part.find_nearest(queries, num_neighbors(vote)) for part in parts]
                joined, alone = join_nearest(nearest, vote, len(SIZES)), whole.compare(queries, vote)
                np.testing.assert_array_equal(joined.similarity, alone.similarity)
                np.testing.assert_array_equal(joined.votes, alone.votes)  # type: ignore[arg-type]


def test_a_part_counts_the_photographs_that_decide_the_weight_of_a_vote(tmp_path: Path) -> None:
    """The neighbour is in one part, most photographs of its species are in the other."""
    folders = write_shards(tmp_path, [[0.1] * 8 + [0.99], [0.98]], (8,))
    parts = [Gallery(Index([folder]), 2) for folder in folders]
    nearest = [part.find_nearest(np.array([[1, 0, 0]], np.float32), 2) for part in parts]
    assert [found.num_indexed for found in nearest] == [{0: 8}, {0: 1, 1: 1}]
    votes = join_nearest(nearest, Vote(share=0.5, power=1.0, num_neighbors=2), 2).votes
    assert votes is not None
    assert (votes[:, 1] > 4 * votes[:, 0]).all()


def test_an_index_without_photographs_is_far_from_every_photograph() -> None:
    empty = Gallery(Index([]), 3)
    queries = np.array([[1, 0, 0]], np.float32)
    assert empty.compare(queries, Vote()).similarity.tolist() == [-1.0]
    votes = empty.compare(queries, Vote(share=0.5)).votes
    assert votes is not None
    assert votes.tolist() == [[0, 0, 0]]
    assert empty.illustrate(queries, [2, 0], 3) == [[], []]
    assert empty.picture(key(1)) is None


def test_the_best_photograph_of_each_occurrence_comes_before_all_others() -> None:
    is_first = find_firsts(["a", "a", "", "b", "a", "", "b"])
    assert is_first == [True, False, True, True, False, True, False]
    assert [choose(is_first, num).tolist() for num in (1, 4, 5, 9)] == [[0], [0, 2, 3, 5], [0, 1, 2, 3, 5], [*range(7)]]
