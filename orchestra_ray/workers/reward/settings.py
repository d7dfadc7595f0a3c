"""The settings of scoring: one record, the same for every group of a step."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestra_ray.config.learning import RewardConfig
from orchestra_ray.core.records import Preference
from orchestra_ray.workers.reward.advantage import ESTIMATORS
from orchestra_ray.workers.reward.combinations import COMBINATIONS


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the reward's features: outcome, dollars, seconds and calls of each tool.

    `tools` has the keys of a preference's `tools`.
    """

    outcome: float = 1.0
    usd: float = 0.0
    seconds: float = 0.0
    tools: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """combination, advantage: names of `COMBINATIONS` and `ESTIMATORS`.

    weights: of `scalarised`, instead of the preference. budget_usd: of `budgeted`, the mean per
    episode; multiplier: its current value. clip: the largest absolute advantage. turn_credit: see
    `orchestra_ray.workers.reward.turns`. overlong: cap and margin of a response in tokens, if
    length is part of the reward.
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
        """Returns the configured settings; by default the estimator named like the combination.

        The default of `budgeted` is an estimator without a divisor: if all episodes of a group are
        right, only the cost term differs, and dividing by the deviation would cancel the
        multiplier.
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
        """Returns the weights of a group with this preference."""
        if self.combination == "scalarised":
            return self.weights
        if self.combination == "budgeted":
            assert self.budget_usd is not None
            return Weights(usd=self.multiplier / self.budget_usd)
        return Weights(preference.outcome, preference.cost, preference.latency, preference.tools)
