"""The split of pairs that a model wrote."""

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.data.preferences.intents import Weights
from orchestra_ray.data.preferences.llm_written import LlmWritten, Proposal
from orchestra_ray.data.preferences.load import Cell
from orchestra_ray.data.preferences.split import split

WAYS = st.lists(st.integers(1, 6), min_size=1, max_size=30)


def written(ways: list[int]) -> LlmWritten:
    """Vector n is said in ways[n] ways."""
    made = [
        Proposal(f"Way {way} of {n}.", Weights(1.0, n / 100, 0.0))
        for n, count in enumerate(ways)
        for way in range(count)
    ]
    return LlmWritten(kept=made)


@given(WAYS, st.integers(0, 2**32))
def test_every_pair_has_a_cell_and_new_weights_are_in_no_training_pair(
    ways: list[int], seed: int
) -> None:
    pairs = split(written(ways), seed)
    by_cell = {cell: [p.preference for p in pairs if p.cell is cell] for cell in Cell}
    assert len(pairs) == sum(ways) == len({pair.preference.instruction for pair in pairs})
    trained = {p.cost for p in by_cell[Cell.TRAIN]}
    assert {p.cost for p in by_cell[Cell.NEW_WORDING]} <= trained
    assert trained.isdisjoint({p.cost for p in by_cell[Cell.NEW_BOTH]})
    assert not by_cell[Cell.NEW_VECTOR]
    assert trained


def test_a_fifth_is_held_out_each_way() -> None:
    cells = [pair.cell for pair in split(written([5] * 10), 0)]
    assert [cells.count(cell) for cell in Cell] == [32, 8, 0, 10]
