"""What the numbers of an evaluation show, in words, and nothing that they do not show.

Two policies differ "outside both intervals" where the mean of each lies outside the 95% interval
of the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra_ray.evaluation.metrics import Summary


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reward after training against another policy's. `difference` is after minus other."""

    other: str
    other_reward: float
    difference: float
    outside_both: bool

    @property
    def word(self) -> str:
        if not self.outside_both:
            return "no difference shown"
        return "above" if self.difference > 0 else "below"


def compare(after: Summary, name: str, other: Summary) -> Comparison:
    apart = not _inside(after.reward, other.reward_ci95) and not _inside(
        other.reward, after.reward_ci95
    )
    return Comparison(name, other.reward, after.reward - other.reward, apart)


def compare_all(
    before: Summary, after: Summary, baselines: Mapping[str, Summary]
) -> list[Comparison]:
    """`after` against `before`, then against each baseline."""
    return [
        compare(after, name, other)
        for name, other in ({"before": before} | dict(baselines)).items()
    ]


def sentences(after: Summary, comparisons: Sequence[Comparison]) -> str:
    """One sentence on before and after, and one on the baselines where there are some."""
    before = next(one for one in comparisons if one.other == "before")
    baselines = [one for one in comparisons if one.other != "before"]
    first = _before_and_after(after.reward, before)
    return f"{first} {_against(baselines)}" if baselines else first


def _before_and_after(reward: float, before: Comparison) -> str:
    if before.outside_both:
        change = f"{abs(before.difference):.3f} {before.word} before"
        return (
            f"After training the reward is {reward:.3f}, {change} ({before.other_reward:.3f}),"
            " outside both 95% intervals."
        )
    return (
        f"The reward is {before.other_reward:.3f} before training and {reward:.3f} after;"
        " the 95% intervals show no difference."
    )


def _against(baselines: Sequence[Comparison]) -> str:
    clear = [
        f"{word} {_listed([one.other for one in baselines if one.word == word])}"
        for word in ("above", "below")
        if any(one.word == word for one in baselines)
    ]
    unclear = [one.other for one in baselines if not one.outside_both]
    claims = [f"lies {' and '.join(clear)}, outside both intervals"] if clear else []
    claims += [f"is not shown to differ from {_listed(unclear)}"] if unclear else []
    return f"It {'; it '.join(claims)}."


def _inside(value: float, interval: tuple[float, float]) -> bool:
    """Also where a number is missing (NaN): what cannot be compared is not shown to differ."""
    return not (value < interval[0] or value > interval[1])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
