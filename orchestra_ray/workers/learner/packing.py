"""Assignment of sequences to micro-batches and ranks: pure functions over lengths.

Invariants: every index is in exactly one micro-batch; no micro-batch exceeds the cap; every rank
has the same number of them, because the collectives of ZeRO run in lockstep. An empty list is a
slot without sequences, in which a rank computes a dummy of zero loss.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from orchestra_ray.config.learning import LearnerConfig

Bins = list[list[int]]


def pack(lengths: Sequence[int], cap: int) -> Bins:
    """Returns bins of indices within the cap, by best-fit decreasing: at most 11/9 optimum + 1.

    Raises ValueError if a single length exceeds the cap.
    """
    bins: Bins = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), ascending
    for index in _descending(lengths, cap):
        at = bisect_left(room, (lengths[index], 0))
        if at == len(room):
            left, target = cap, len(bins)
            bins.append([])
        else:
            left, target = room.pop(at)
        bins[target].append(index)
        insort(room, (left - lengths[index], target))
    return bins


def pack_padded(lengths: Sequence[int], cap: int) -> Bins:
    """Like `pack`, for bins that cost rows times the longest row; returns the fewest possible.

    Raises ValueError if a single length exceeds the cap.
    """
    bins: Bins = []
    for index in _descending(lengths, cap):
        if not bins or (len(bins[-1]) + 1) * lengths[bins[-1][0]] > cap:
            bins.append([])
        bins[-1].append(index)
    return bins


def is_padded(attention: str) -> bool:
    """Returns whether an attention implementation of transformers needs padded batches.

    Only FlashAttention skips the other sequences of a packed row; all others compute over them.
    """
    return not attention.startswith("flash_attention")


def plan_microbatches(
    lengths: Sequence[int], cap: int, ranks: int, padded: bool
) -> list[list[list[int]]]:
    """Returns for each rank its micro-batches, lists of indices; equally many for each rank.

    `cap` counts tokens: the sum of a packed micro-batch, rows times longest row of a padded one.
    The number of slots is the minimum found by the packing; for that number the largest micro-batch
    is made as small as possible, to balance the ranks.
    Raises ValueError if a single length exceeds the cap.
    """
    method = pack_padded if padded else pack
    cost = _padded_cost if padded else _packed_cost
    slots = -(-len(method(lengths, cap)) // ranks)
    bins = _tightest(method, lengths, cap, slots * ranks)
    bins.sort(key=lambda members: cost(lengths, members), reverse=True)
    plan: list[list[list[int]]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for slot in range(slots):
        members_of = bins[slot * ranks : (slot + 1) * ranks]
        members_of += [[] for _ in range(ranks - len(members_of))]
        idlest_first = sorted(range(ranks), key=load.__getitem__)
        for rank, members in zip(idlest_first, members_of, strict=True):
            plan[rank].append(members)
            load[rank] += cost(lengths, members)
    return plan


def plan_batch(
    lengths: Sequence[int], cfg: LearnerConfig, padded: bool
) -> list[list[list[list[int]]]]:
    """Returns the optimizer steps of one batch, each as in `plan_microbatches`.

    Indices are into the batch. Step i takes every `minibatches`-th sequence from the i-th on, so
    that the episodes of a group are spread over the steps.
    """
    steps = []
    for first in range(min(cfg.minibatches, len(lengths))):
        chosen = range(first, len(lengths), cfg.minibatches)
        local = plan_microbatches(
            [lengths[i] for i in chosen], cfg.tokens_per_microbatch, cfg.ranks, padded
        )
        steps.append([[[chosen[i] for i in members] for members in rank] for rank in local])
    return steps


def _descending(lengths: Sequence[int], cap: int) -> list[int]:
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    if order and lengths[order[0]] > cap:
        raise ValueError(
            f"sequence {order[0]} has {lengths[order[0]]} tokens, over the cap of {cap} tokens a "
            f"micro-batch: raise learner.tokens_per_microbatch or shorten the episodes"
        )
    return order


def _packed_cost(lengths: Sequence[int], members: list[int]) -> int:
    return sum(lengths[i] for i in members)


def _padded_cost(lengths: Sequence[int], members: list[int]) -> int:
    return len(members) * max((lengths[i] for i in members), default=0)


def _tightest(
    method: Callable[[Sequence[int], int], Bins], lengths: Sequence[int], cap: int, most: int
) -> Bins:
    """Returns the packing under the lowest cap that needs at most `most` bins."""
    best = method(lengths, cap)
    low, high = max(lengths, default=0), cap
    while low < high:
        middle = (low + high) // 2
        bins = method(lengths, middle)
        if len(bins) <= most:
            best, high = bins, middle
        else:
            low = middle + 1
    return best
