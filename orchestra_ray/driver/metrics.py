"""The metrics of a step that come from its scored groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log
from statistics import fmean

from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.money import usd
from orchestra_ray.core.records import Card, EpisodeScore
from orchestra_ray.core.states import Ended, Stop
from orchestra_ray.driver.filters import ScoredGroup, Selection


def group_metrics(groups: Sequence[ScoredGroup], combination: str = "paper") -> Mapping[str, float]:
    """Means over the episodes that came back, before any filter.

    Without an episode there is nothing to tell.
    """
    pairs = [pair for group in groups if group.score.failure is None for pair in group.pairs()]
    if not pairs:
        return {}
    cards = [rollout.card for rollout, _ in pairs]
    scores = [score for _, score in pairs]
    response_tokens = sum(card.response_tokens for card in cards)
    return {
        **_calls(cards),
        **_choices(cards),
        **_parts(scores),
        **(_adherence(groups) if combination == "paper" else {}),
        "reward_mean": fmean(score.reward for score in scores),
        "accuracy": fmean(score.correct for score in scores),
        "answered": fmean(card.answered for card in cards),
        **_unscorable(groups),
        **_stops(cards),
        "format_ok": sum(c.turns_well_formed for c in cards) / max(1, sum(c.turns for c in cards)),
        "cost_usd": usd(sum(card.price_nanousd for card in cards)) / len(cards),
        "latency_s": fmean(card.latency_s for card in cards),
        "turns": fmean(card.turns for card in cards),
        "episode_tokens": fmean(card.tokens for card in cards),
        "episodes": len(cards),
        "response_tokens": response_tokens / len(cards),
        "response_tokens_max": max(card.response_tokens for card in cards),
        "seconds/tools": fmean(card.tools_s for card in cards),
        "seconds/score": fmean(group.score_s for group in groups),
    }


def filter_metrics(
    groups: Sequence[ScoredGroup], selections: Sequence[Selection]
) -> Mapping[str, float]:
    """What the filters leave: groups by why nothing of them is trained, and of the episodes that
    came back and are not trained, turns and response tokens by the state that they end in.
    """
    reasons: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for group, selection in zip(groups, selections, strict=True):
        if not selection.trained:
            reasons[_why_dropped(group, selection)] += 1
        for card in (rollout.card for rollout in group.rollouts):
            state = selection.dropped.get(card.episode_id)
            if state is not None:
                dropped[f"dropped/{state}_turns"] += card.turns
                dropped[f"dropped/{state}_tokens"] += card.response_tokens
    return {
        "groups_kept": len(groups) - reasons.total(),
        "groups_dropped": reasons.total(),
        **{f"groups_dropped/{reason}": count for reason, count in reasons.items()},
        **dropped,
    }


def failure_metrics(
    groups: Sequence[ScoredGroup], selections: Sequence[Selection]
) -> Mapping[str, float]:
    """The episodes of the groups, and how many of them failed, by the kind of failure."""
    kinds = {Ended.failed(kind): kind.value for kind in FailureKind}
    states = Counter(state for selection in selections for state in selection.dropped.values())
    failed = {kind: states[state] for state, kind in kinds.items() if states[state]}
    return {
        "episodes_dispatched": sum(len(group.spec.episodes) for group in groups),
        "episodes_failed": sum(failed.values()),
        **{f"episodes_failed/{kind}": count for kind, count in failed.items()},
    }


def _why_dropped(group: ScoredGroup, selection: Selection) -> str:
    """The reason of its score; else the state that most of its episodes end in."""
    if group.score.reason is not None:
        return group.score.reason
    return Counter(selection.dropped.values()).most_common(1)[0][0]


def _unscorable(groups: Sequence[ScoredGroup]) -> Mapping[str, float]:
    """Answers that no scorer could score, where there were any."""
    count = sum(group.score.unscorable for group in groups)
    return {"unscorable_answers": count} if count else {}


def _stops(cards: Sequence[Card]) -> Mapping[str, float]:
    return {f"stop/{stop}": fmean(card.stop == stop for card in cards) for stop in Stop}


def _choices(cards: Sequence[Card]) -> Mapping[str, float]:
    """How the calls are spread: their entropy in nats, and the share of the one called most.

    A share near 1 is a collapse on one tool.
    """
    counts: Counter[str] = Counter()
    for card in cards:
        counts.update(card.calls)
    total = counts.total()
    if not total:
        return {}
    shares = [count / total for count in counts.values()]
    entropy = -sum(share * log(share) for share in shares)
    return {"choice/entropy": entropy, "choice/top_share": max(shares)}


def _parts(scores: Sequence[EpisodeScore]) -> Mapping[str, float]:
    """What each objective adds to the mean reward."""
    names = sorted({name for score in scores for name in score.parts})
    return {f"reward/{n}": fmean(score.parts.get(n, 0.0) for score in scores) for n in names}


def _adherence(groups: Sequence[ScoredGroup]) -> Mapping[str, float]:
    """How far right episodes go where their user wants: 1 is the best of each group throughout.

    What cost, time and tools add to the reward, by the sum of their weights. As in the reward, an
    amount in which a group agrees adds nothing, so 1 needs groups that differ in all of them.
    """
    shares = []
    for group in groups:
        wish = group.spec.preference
        most = wish.cost + wish.latency + sum(wish.tools.values())
        for score in group.score.episodes if most and group.score.keep else ():
            if score.correct:
                wanted = (score.parts.get(name, 0.0) for name in ("cost", "latency", "tools"))
                shares.append(sum(wanted) / most)
    return {"preference/adherence": fmean(shares)} if shares else {}


def _calls(cards: Sequence[Card]) -> Mapping[str, float]:
    """Calls an episode by identity."""
    names = sorted({name for card in cards for name in card.calls})
    return {f"calls/{n}": sum(card.calls.get(n, 0) for card in cards) / len(cards) for n in names}
