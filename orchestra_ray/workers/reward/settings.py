"""How a group is scored: one record, the same for every group of a step."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestra_ray.config.schema import RewardConfig
from orchestra_ray.core.records import Preference
from orchestra_ray.workers.reward.advantage import ESTIMATORS
from orchestra_ray.workers.reward.combinations import COMBINATIONS


@dataclass(frozen=True, slots=True)
class Weights:
    """What the columns weigh; the unit is the combination's. `tools`: keys as a preference's."""

    outcome: float = 1.0
    usd: float = 0.0
    seconds: float = 0.0
    tools: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """combination, advantage: names of `COMBINATIONS` and `ESTIMATORS`.

    weights: of `scalarised`, in place of the preference. budget_usd: of `budgeted`, a mean an
    episode, with the multiplier as it stands. clip: the largest absolute advantage. turn_credit:
    see `orchestra_ray.workers.reward.turns`. overlong: cap and margin in tokens of a response whose
    length is a part of the reward.
    """

    combination: str = "paper"
    advantage: str = "paper"
    weights: Weights = Weights()
    budget_usd: float | None = None
    multiplier: float = 0.0
    clip: float | None = None
    turn_credit: bool = False
    overlong: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for value, known in ((self.combination, COMBINATIONS), (self.advantage, ESTIMATORS)):
            if value not in known:
                raise ValueError(f"reward: unknown {value!r}; use one of {', '.join(known)}")
        if self.combination == "budgeted" and not (self.budget_usd and self.budget_usd > 0):
            raise ValueError("reward: `budgeted` has no budget; set budget_usd above 0")

    @classmethod
    def of(cls, config: RewardConfig, overlong: tuple[int, int] | None = None) -> "RewardSettings":
        """As configured. A combination has the estimator of its name, where there is one.

        `budgeted` has one that divides by nothing: in a group that is all right only the cost term
        differs, and a deviation would divide the multiplier out of it.
        """
        own = config.preset if config.preset in ESTIMATORS else "grpo"
        if config.preset == "budgeted":
            own = "dr_grpo"
        weights = config.weights
        return cls(
            combination=config.preset,
            advantage=config.advantage or own,
            weights=Weights(weights.outcome, weights.usd, weights.seconds, weights.tools),
            budget_usd=config.budget_usd,
            multiplier=config.multiplier,
            clip=config.advantage_clip,
            turn_credit=config.turn_credit,
            overlong=overlong,
        )

    def weights_under(self, preference: Preference) -> Weights:
        """What weighs in a group of this preference."""
        if self.combination == "scalarised":
            return self.weights
        if self.combination == "budgeted":
            assert self.budget_usd is not None
            return Weights(usd=self.multiplier / self.budget_usd)
        return Weights(preference.outcome, preference.cost, preference.latency, preference.tools)
