"""Every sequence is planned once, under the cap, in lockstep and in balance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config.learning import LearnerConfig
from orchestra_ray.workers.learner.packing import pack, pack_padded, plan_batch, plan_microbatches

CAP = 100
lengths_of_any_batch = st.lists(st.integers(1, CAP), max_size=60)


def cost(lengths: list[int], members: list[int], padded: bool) -> int:
    longest = max((lengths[i] for i in members), default=0)
    return longest * len(members) if padded else sum(lengths[i] for i in members)


@given(lengths_of_any_batch)
def test_pack_uses_every_index_once_and_keeps_the_cap(lengths: list[int]) -> None:
    bins = pack(lengths, CAP)
    assert sorted(i for members in bins for i in members) == list(range(len(lengths)))
    assert all(0 < cost(lengths, members, False) <= CAP for members in bins)
    # two bins that fit into one would be a bin too many
    loads = sorted(cost(lengths, members, False) for members in bins)
    assert len(loads) < 2 or loads[0] + loads[1] > CAP


def test_pack_reaches_the_optimum_where_best_fit_decreasing_does() -> None:
    lengths = [60, 50, 50, 40, 40, 30, 30]
    assert len(pack(lengths, CAP)) == 3  # sum(lengths) / CAP


@given(st.lists(st.integers(1, CAP), min_size=1, max_size=60))
def test_pack_stays_near_the_bound(lengths: list[int]) -> None:
    large = sum(length > CAP // 2 for length in lengths)
    bound = max(-(-sum(lengths) // CAP), large)
    assert len(pack(lengths, CAP)) <= 1.5 * bound + 1


def test_a_padded_microbatch_counts_its_longest_row() -> None:
    assert pack_padded([50, 10, 10, 10, 10], CAP) == [[0, 1], [2, 3, 4]]


@pytest.mark.parametrize("method", [pack, pack_padded])
def test_a_sequence_over_the_cap_is_an_error(method) -> None:
    with pytest.raises(ValueError, match="sequence 1 has 101 tokens, over the cap of 100"):
        method([3, 101], CAP)


@given(lengths_of_any_batch, st.integers(1, 5), st.booleans())
def test_a_plan_uses_every_index_once_in_lockstep_under_the_cap(
    lengths: list[int], ranks: int, padded: bool
) -> None:
    plan = plan_microbatches(lengths, CAP, ranks, padded)
    assert len(plan) == ranks
    assert len({len(slots) for slots in plan}) == 1
    flat = [i for slots in plan for members in slots for i in members]
    assert sorted(flat) == list(range(len(lengths)))
    assert all(cost(lengths, m, padded) <= CAP for slots in plan for m in slots)


@given(lengths_of_any_batch, st.integers(1, 5), st.booleans())
def test_a_plan_has_no_more_slots_than_the_packing_needs(
    lengths: list[int], ranks: int, padded: bool
) -> None:
    bins = (pack_padded if padded else pack)(lengths, CAP)
    plan = plan_microbatches(lengths, CAP, ranks, padded)
    assert len(plan[0]) == -(-len(bins) // ranks)


@pytest.mark.parametrize("padded", [True, False])
def test_a_batch_that_one_rank_could_hold_is_still_shared(padded: bool) -> None:
    plan = plan_microbatches([10] * 64, 8192, 2, padded)
    assert [[len(members) for members in slots] for slots in plan] == [[32], [32]]


@given(st.lists(st.integers(1, 40), min_size=20, max_size=60), st.integers(2, 4))
def test_tokens_are_balanced_between_ranks(lengths: list[int], ranks: int) -> None:
    plan = plan_microbatches(lengths, CAP, ranks, padded=False)
    loads = [sum(cost(lengths, m, False) for m in slots) for slots in plan]
    assert max(loads) - min(loads) <= CAP


def test_minibatches_split_the_batch() -> None:
    cfg = LearnerConfig(ranks=2, minibatches=2, tokens_per_microbatch=16)
    plans = plan_batch([8, 9, 10, 11, 12], cfg, padded=True)
    members = [sorted(i for rank in plan for m in rank for i in m) for plan in plans]
    assert members == [[0, 2, 4], [1, 3]]


def test_more_minibatches_than_sequences_make_one_step_a_sequence() -> None:
    cfg = LearnerConfig(ranks=2, minibatches=4)
    assert plan_batch([5, 5], cfg, padded=True) == [[[[0]], [[]]], [[[1]], [[]]]]
