"""The split of pairs that a model wrote."""

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.data.preferences.intents import Weights
from orchestra_ray.data.preferences.llm_written import FilteredProposals, Proposal
from orchestra_ray.data.preferences.load import Split
from orchestra_ray.data.preferences.split import assign_splits

WAYS = st.lists(st.integers(1, 6), min_size=1, max_size=30)


def proposals(ways: list[int]) -> FilteredProposals:
    """Vector n has ways[n] phrasings."""
    made = [
        Proposal(f"Way {way} of {n}.", Weights(1.0, n / 100, 0.0))
        for n, count in enumerate(ways)
        for way in range(count)
    ]
    return FilteredProposals(kept=made)


@given(WAYS, st.integers(0, 2**32))
def test_every_pair_has_a_split_and_new_weights_are_in_no_training_pair(
    ways: list[int], seed: int
) -> None:
    pairs = assign_splits(proposals(ways), seed)
    by_split = {split: [p.preference for p in pairs if p.split is split] for split in Split}
    assert len(pairs) == sum(ways) == len({pair.preference.instruction for pair in pairs})
    trained = {p.cost for p in by_split[Split.TRAIN]}
    assert {p.cost for p in by_split[Split.NEW_WORDING]} <= trained
    assert trained.isdisjoint({p.cost for p in by_split[Split.NEW_BOTH]})
    assert not by_split[Split.NEW_VECTOR]
    assert trained


def test_a_fifth_is_held_out_each_way() -> None:
    splits = [pair.split for pair in assign_splits(proposals([5] * 10), 0)]
    assert [splits.count(split) for split in Split] == [32, 8, 0, 10]
