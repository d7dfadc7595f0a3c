"""The metrics of a step that come from its scored groups."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from orchestra_ray.core.money import usd
from orchestra_ray.core.records import Card
from orchestra_ray.core.states import Stop
from orchestra_ray.driver.selection import ScoredGroup


def group_metrics(groups: Sequence[ScoredGroup], generate_s: float) -> Mapping[str, float]:
    """Means over the episodes that came back, before any filter; rates over `generate_s`."""
    pairs = [pair for group in groups if group.score.failure is None for pair in group.pairs()]
    kept = sum(group.score.keep for group in groups)
    counts = {"groups_kept": kept, "groups_dropped": len(groups) - kept}
    if not pairs:
        return counts
    cards = [rollout.card for rollout, _ in pairs]
    scores = [score for _, score in pairs]
    response_tokens = sum(card.response_tokens for card in cards)
    return {
        **counts,
        **_calls(cards),
        "reward_mean": fmean(score.reward for score in scores),
        "accuracy": fmean(score.correct for score in scores),
        "answered": fmean(card.answered for card in cards),
        **_stops(cards),
        "format_ok": sum(c.turns_well_formed for c in cards) / max(1, sum(c.turns for c in cards)),
        "cost_usd": usd(sum(card.price_nanousd for card in cards)) / len(cards),
        "latency_s": fmean(card.latency_s for card in cards),
        "turns": fmean(card.turns for card in cards),
        "episode_tokens": fmean(card.tokens for card in cards),
        "episodes": len(cards),
        "response_tokens": response_tokens / len(cards),
        "tokens_per_s": response_tokens / generate_s,
        "trajectories_per_s": len(cards) / generate_s,
        "seconds/tools": fmean(card.tools_s for card in cards),
        "seconds/score": fmean(group.score_s for group in groups),
    }


def _stops(cards: Sequence[Card]) -> Mapping[str, float]:
    return {f"stop/{stop}": fmean(card.stop == stop for card in cards) for stop in Stop}


def _calls(cards: Sequence[Card]) -> Mapping[str, float]:
    """Calls an episode by identity."""
    names = sorted({name for card in cards for name in card.calls})
    return {f"calls/{n}": sum(card.calls.get(n, 0) for card in cards) / len(cards) for n in names}
