"""The conclusions that an evaluation's figures support, as sentences.

The subject is the policy "after" training, or "policy" in an evaluation without training; it is
compared with every other row. Two policies differ "outside both intervals" if the mean of each lies
outside the 95% interval of the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra_ray.evaluation.summary import Summary

MEASURED = ("before", "after", "policy")  # the rows of the own policy, in their order
BOUNDS = ("oracle",)  # baselines with knowledge that no policy has
ALL_FAILED = 1 - 1e-9
INTERVALS, RANGES = "95% intervals", "ranges over seeds"  # the kinds of intervals


@dataclass(frozen=True, slots=True)
class Comparison:
    """The subject's reward against another policy's. `difference`: the subject's minus it."""

    other: str
    other_reward: float
    difference: float
    outside_both: bool

    @property
    def word(self) -> str:
        if not self.outside_both:
            return "no difference shown"
        return "above" if self.difference > 0 else "below"


def in_order(rows: Mapping[str, Summary]) -> dict[str, Summary]:
    """Returns the rows with the own policy before the baselines."""
    measured = [name for name in MEASURED if name in rows]
    return {name: rows[name] for name in dict.fromkeys([*measured, *rows])}


def failed_calls(rows: Mapping[str, Summary]) -> list[str]:
    """Returns a sentence for each policy with failed calls, the highest fraction first."""
    failing = {name: one for name, one in rows.items() if one.failed_share > 0.0}
    found = []
    for name, one in sorted(failing.items(), key=lambda item: -item[1].failed_share):
        mostly = f"mostly {one.failed_mostly}" if len(one.failed) > 1 else one.failed_mostly
        if one.failed_share >= ALL_FAILED:
            found.append(f"{name}: ALL CALLS FAILED ({mostly}); ignore its figures")
        else:
            found.append(f"{name}: {share_words(one.failed_share)} of its calls failed ({mostly})")
    return found


def share_words(share: float) -> str:
    """Returns a fraction in percent; a small one does not read as 0."""
    return f"{share:.1%}" if share >= 0.001 else "below 0.1%"


def subject(rows: Mapping[str, Summary]) -> str:
    """Returns the name of the row that is compared with the others; without one, the first."""
    return next((name for name in ("after", "policy") if name in rows), next(iter(rows)))


def compare(one: Summary, name: str, other: Summary) -> Comparison:
    """Compares `one` with `other`, the row `name`."""
    apart = not _inside(one.reward, other.reward_ci95) and not _inside(
        other.reward, one.reward_ci95
    )
    return Comparison(name, other.reward, one.reward - other.reward, apart)


def compare_all(rows: Mapping[str, Summary]) -> dict[str, Comparison]:
    """Compares the subject with every other row, by name."""
    own = subject(rows)
    return {name: compare(rows[own], name, other) for name, other in rows.items() if name != own}


def sentences(rows: Mapping[str, Summary], ends: str = INTERVALS) -> str:
    """Returns a sentence on the subject, and one on the baselines if there are any.

    `ends`: the kind of the rows' intervals, INTERVALS or RANGES.
    """
    reward, comparisons = rows[subject(rows)].reward, compare_all(rows)
    before = comparisons.pop("before", None)
    first = (
        f"The reward is {reward:.3f}."
        if before is None
        else _before_and_after(reward, before, ends)
    )
    return f"{first} {_against(list(comparisons.values()), ends)}" if comparisons else first


def _before_and_after(reward: float, before: Comparison, ends: str) -> str:
    if before.outside_both:
        change = f"{abs(before.difference):.3f} {before.word} before"
        return (
            f"After training the reward is {reward:.3f}, {change} ({before.other_reward:.3f}),"
            f" outside both {ends}."
        )
    return (
        f"The reward is {before.other_reward:.3f} before training and {reward:.3f} after;"
        f" the {ends} show no difference."
    )


def _against(baselines: Sequence[Comparison], ends: str) -> str:
    clear = [
        f"{word} {_listed([one.other for one in baselines if one.word == word])}"
        for word in ("above", "below")
        if any(one.word == word for one in baselines)
    ]
    unclear = [one.other for one in baselines if not one.outside_both]
    claims = [f"lies {' and '.join(clear)}, outside both {ends}"] if clear else []
    claims += [f"is not shown to differ from {_listed(unclear)}"] if unclear else []
    return f"It {'; it '.join(claims)}."


def _inside(value: float, interval: tuple[float, float]) -> bool:
    """Returns True for NaN too: a missing value never shows a difference."""
    return not (value < interval[0] or value > interval[1])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
