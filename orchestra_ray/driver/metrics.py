"""Metrics of a step that are computed from its scored groups."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log
from statistics import fmean

from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.money import usd
from orchestra_ray.core.records import EpisodeScore, EpisodeSummary
from orchestra_ray.core.states import Ended, Stop
from orchestra_ray.driver.filters import FilteredGroup, ScoredGroup


def group_metrics(groups: Sequence[ScoredGroup], combination: str = "paper") -> Mapping[str, float]:
    """Returns means over all scored episodes, before any filter; empty without an episode."""
    pairs = [pair for group in groups if group.score.failure is None for pair in group.pairs()]
    if not pairs:
        return {}
    summaries = [rollout.summary for rollout, _ in pairs]
    scores = [score for _, score in pairs]
    response_tokens = sum(summary.response_tokens for summary in summaries)
    return {
        **_calls(summaries),
        **_choices(summaries),
        **_parts(scores),
        **(_adherence(groups) if combination == "paper" else {}),
        "reward_mean": fmean(score.reward for score in scores),
        "accuracy": fmean(score.correct for score in scores),
        "answered": fmean(summary.answered for summary in summaries),
        **_unscorable(groups),
        **_stops(summaries),
        "format_ok": sum(c.turns_well_formed for c in summaries)
        / max(1, sum(c.turns for c in summaries)),
        "cost_usd": usd(sum(summary.price_nanousd for summary in summaries)) / len(summaries),
        "latency_s": fmean(summary.latency_s for summary in summaries),
        "turns": fmean(summary.turns for summary in summaries),
        "episode_tokens": fmean(summary.tokens for summary in summaries),
        "episodes": len(summaries),
        "response_tokens": response_tokens / len(summaries),
        "response_tokens_max": max(summary.response_tokens for summary in summaries),
        "seconds/tools": fmean(summary.tools_s for summary in summaries),
        "seconds/score": fmean(group.score_s for group in groups),
    }


def filter_metrics(
    groups: Sequence[ScoredGroup], filtered: Sequence[FilteredGroup]
) -> Mapping[str, float]:
    """Returns the numbers of kept groups and of dropped groups by reason, and the turns and
    response tokens of dropped episodes by terminal state.
    """
    reasons: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for group, kept in zip(groups, filtered, strict=True):
        if not kept.trainable:
            reasons[_why_dropped(group, kept)] += 1
        for summary in (rollout.summary for rollout in group.rollouts):
            state = kept.dropped.get(summary.episode_id)
            if state is not None:
                dropped[f"dropped/{state}_turns"] += summary.turns
                dropped[f"dropped/{state}_tokens"] += summary.response_tokens
    return {
        "groups_kept": len(groups) - reasons.total(),
        "groups_dropped": reasons.total(),
        **{f"groups_dropped/{reason}": count for reason, count in reasons.items()},
        **dropped,
    }


def failure_metrics(
    groups: Sequence[ScoredGroup], filtered: Sequence[FilteredGroup]
) -> Mapping[str, float]:
    """Returns the numbers of dispatched episodes, and of failed ones by kind of failure."""
    kinds = {Ended.failed(kind): kind.value for kind in FailureKind}
    states = Counter(state for group in filtered for state in group.dropped.values())
    failed = {kind: states[state] for state, kind in kinds.items() if states[state]}
    return {
        "episodes_dispatched": sum(len(group.spec.episodes) for group in groups),
        "episodes_failed": sum(failed.values()),
        **{f"episodes_failed/{kind}": count for kind, count in failed.items()},
    }


def _why_dropped(group: ScoredGroup, filtered: FilteredGroup) -> str:
    """Returns the reason of the score, else the most common terminal state."""
    if group.score.reason is not None:
        return group.score.reason
    return Counter(filtered.dropped.values()).most_common(1)[0][0]


def _unscorable(groups: Sequence[ScoredGroup]) -> Mapping[str, float]:
    """Returns the number of unscorable answers, if there are any."""
    count = sum(group.score.unscorable for group in groups)
    return {"unscorable_answers": count} if count else {}


def _stops(summaries: Sequence[EpisodeSummary]) -> Mapping[str, float]:
    return {f"stop/{stop}": fmean(summary.stop == stop for summary in summaries) for stop in Stop}


def _choices(summaries: Sequence[EpisodeSummary]) -> Mapping[str, float]:
    """Returns the entropy of the calls in nats, and the share of the most called tool.

    A share near 1 means a collapse onto one tool.
    """
    counts: Counter[str] = Counter()
    for summary in summaries:
        counts.update(summary.calls)
    total = counts.total()
    if not total:
        return {}
    shares = [count / total for count in counts.values()]
    entropy = -sum(share * log(share) for share in shares)
    return {"choice/entropy": entropy, "choice/top_share": max(shares)}


def _parts(scores: Sequence[EpisodeScore]) -> Mapping[str, float]:
    """Returns the contribution of each objective to the mean reward."""
    names = sorted({name for score in scores for name in score.parts})
    return {f"reward/{n}": fmean(score.parts.get(n, 0.0) for score in scores) for n in names}


def _adherence(groups: Sequence[ScoredGroup]) -> Mapping[str, float]:
    """Returns how well correct episodes follow the preference; 1 is the best of each group.

    The contribution of cost, latency and tools to the reward, divided by the sum of their weights.
    As in the reward, an amount that is equal within a group contributes nothing, so 1 requires
    groups that differ in all amounts.
    """
    shares = []
    for group in groups:
        preference = group.spec.preference
        most = preference.cost + preference.latency + sum(preference.tools.values())
        for score in group.score.episodes if most and group.score.keep else ():
            if score.correct:
                wanted = (score.parts.get(name, 0.0) for name in ("cost", "latency", "tools"))
                shares.append(sum(wanted) / most)
    return {"preference/adherence": fmean(shares)} if shares else {}


def _calls(summaries: Sequence[EpisodeSummary]) -> Mapping[str, float]:
    """Returns calls per episode by identity."""
    names = sorted({name for summary in summaries for name in summary.calls})
    return {
        f"calls/{n}": sum(summary.calls.get(n, 0) for summary in summaries) / len(summaries)
        for n in names
    }
