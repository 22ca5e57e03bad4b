import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aitax_ray.dataset.components import components


@given(st.integers(1, 40).flatmap(lambda num: st.tuples(
    st.just(num), st.lists(st.tuples(st.integers(0, num - 1), st.integers(0, num - 1)), max_size=60)
)))  # fmt: skip
def test_what_is_linked_is_one_and_nothing_else(graph: tuple[int, list[tuple[int, int]]]) -> None:
    num, links = graph
    expected = list(range(num))
    for _ in range(num):
        for a, b in links:
            expected[a] = expected[b] = min(expected[a], expected[b])
    first, second = (np.array(side, np.int64) for side in (zip(*links, strict=True) if links else ((), ())))
    assert components(num, first, second).tolist() == expected


def test_a_long_chain_is_one() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    assert not components(100_000, order[:-1], order[1:]).any()
