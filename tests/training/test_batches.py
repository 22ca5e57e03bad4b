from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray.training.batches import Columns, FromMemory, FromStream, draw_seed, read_all, split_steps


def rows(num: int) -> pa.Table:
    names = [f"{number:03d}" for number in range(num)]
    return pa.table({"image_id": names, "class_index": pa.array(range(num), pa.int32())})


def keys(columns: Columns | dict[str, list[str]]) -> list[str]:
    return list(columns["image_id"])


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "steps", "drop_last"),
    [(8, 4, 2, True), (9, 4, 2, True), (10, 4, 3, False), (3, 4, 1, False), (1, 4, 1, False), (0, 4, 0, True)],
)
def test_a_last_batch_of_less_than_half_is_left_out(num_rows: int, batch_size: int, steps: int, drop_last: bool):
    assert split_steps(num_rows, batch_size) == (steps, drop_last)


def test_seeds_differ_by_epoch_and_worker_and_stay_the_same():
    seeds = [draw_seed(s, epoch, rank) for s in (0, 1) for epoch in range(3) for rank in range(2)]
    assert len(set(seeds)) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [draw_seed(s, epoch, rank) for s in (0, 1) for epoch in range(3) for rank in range(2)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_steps_of_an_epoch_are_the_same_however_many_workers_share_them(world: int):
    shuffled = rows(41).take(np.random.default_rng(0).permutation(41))
    alone = FromMemory(rows(41), 12, 0, 1, seed=5)
    workers = [FromMemory(shuffled, 12, rank, world, seed=5) for rank in range(world)]
    for epoch in range(2):
        steps = [sorted(step) for step in alone.training(epoch, keys)]
        parts = list(zip(*(worker.training(epoch, keys) for worker in workers), strict=True))
        assert [len(step) for step in steps] == [12, 12, 12]  # the last 5 are dropped: less than half a batch
        assert [sorted(key for part in step for key in part) for step in parts] == steps
        assert all(len({len(part) for part in step}) == 1 for step in parts)
        assert len({key for step in steps for key in step}) == 36


def test_each_epoch_has_another_order_and_each_seed():
    orders = [
        [key for step in FromMemory(rows(40), 8, 0, 1, seed).training(epoch, keys) for key in step]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_workers_keep_step_when_the_last_batch_cannot_be_shared_equally():
    parts = [[len(b) for b in FromMemory(rows(11), 4, rank, 2, 0).training(0, keys)] for rank in range(2)]
    assert parts == [[2, 2, 1], [2, 2, 1]]


@pytest.mark.parametrize(("num_rows", "batch_size", "world"), [(9, 2, 2), (11, 4, 4), (5, 8, 6)])
def test_a_last_step_in_which_some_worker_would_have_nothing_is_left_out(
    num_rows: int, batch_size: int, world: int
) -> None:
    workers = [FromMemory(rows(num_rows), batch_size, rank, world, 0) for rank in range(world)]
    parts = [[len(batch) for batch in worker.training(0, keys)] for worker in workers]
    assert parts == [[max(1, batch_size // world)] * (num_rows // max(batch_size, world))] * world
    assert {worker.num_steps for worker in workers} == {len(part) for part in parts}


def test_more_workers_than_a_batch_has_photographs_get_one_each():
    assert [[len(b) for b in FromMemory(rows(6), 1, rank, 3, 0).training(0, keys)] for rank in range(3)] == [[1, 1]] * 3


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_shows_each_photograph_to_one_worker(world: int):
    shares = [list(FromMemory(rows(10), 4, rank, world, 0).validation(3, keys)) for rank in range(world)]
    assert sorted(key for share in shares for batch in share for key in batch) == keys(rows(10).to_pydict())
    assert max(len(batch) for share in shares for batch in share) <= 3


def test_an_error_in_preparing_a_batch_is_raised_in_its_place():
    def fail_on(columns: Columns) -> list[str]:
        if "003" in keys(columns):
            raise ValueError("no photograph")
        return keys(columns)

    batches = FromMemory(rows(8), 2, 0, 1, 0).validation(2, fail_on)
    assert next(batches) == ["000", "001"]
    with pytest.raises(ValueError, match="no photograph"):
        next(batches)


@pytest.mark.usefixtures("ray_session")
def test_a_stream_gives_every_photograph_once_an_epoch_in_other_orders():
    import ray.data

    shard: Any = ray.data.from_arrow([rows(40).slice(at, 10) for at in range(0, 40, 10)]).iterator()
    assert sorted(keys(read_all(shard).to_pydict())) == keys(rows(40).to_pydict())
    feed = FromStream(shard, 40, batch_size=16, rank=0, world=1, seed=0)
    epochs = [list(feed.training(epoch, keys)) for epoch in range(2)]
    assert [[len(step) for step in epoch] for epoch in epochs] == [[16, 16, 8]] * 2
    orders = [[key for step in epoch for key in step] for epoch in epochs]
    assert orders[0] != orders[1] != keys(rows(40).to_pydict())
    assert all(sorted(order) == keys(rows(40).to_pydict()) for order in orders)
    shares = [list(FromStream(shard, 40, 16, rank, 2, 0).validation(25, keys)) for rank in range(2)]
    assert sorted(key for share in shares for batch in share for key in batch) == keys(rows(40).to_pydict())
    assert [len(share) for share in shares] == [2, 2]
