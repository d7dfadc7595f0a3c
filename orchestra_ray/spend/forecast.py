"""Forecasts the spend of a run from its configuration and catalogue, without starting anything.

Four cases, over the toolset samples that the run will use:
- low: an episode makes one call, of the usual length;
- expected: it makes `calls` calls, of the usual length;
- high: it makes a call in every turn, and each call reaches its limits;
- worst: like high, and every call is the most expensive that the budget permits.
In the first three, all items of a toolset sample are called equally often. No case exceeds a limit
of the budget: if one would, the calls of all models are reduced by the same factor. The policy's
own tokens are priced as well; the budget does not bound them.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestra_ray.config.schema import Config, ModelConfig, RolloutConfig
from orchestra_ray.core.money import Prices, Usage, nanousd
from orchestra_ray.core.records import ToolOption, ToolsetSample
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.core.token_count import tokens
from orchestra_ray.data.catalogue import Catalogue, resolve_choice, sample_toolset
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.spend.budget import SpendLimits, limits_of, most_cost_nanousd

POLICY = "policy"
MOST_SAMPLES = 512  # per phase; they represent the rest
TEMPLATE_TOKENS = 30  # of the prompt around a question
LEAST_RESPONSE_TOKENS = 16


class Case(StrEnum):
    LOW = "low"
    EXPECTED = "expected"
    HIGH = "high"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class Amount:
    """Means, hence floats; nano-dollars are rounded at the end."""

    calls: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    nanousd: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.nanousd + other.nanousd,
        )

    def times(self, factor: float) -> "Amount":
        return Amount(
            self.calls * factor,
            self.input_tokens * factor,
            self.output_tokens * factor,
            self.nanousd * factor,
        )


Amounts = Mapping[str, Amount]  # by name of the model or tool


@dataclass(frozen=True, slots=True)
class Item:
    """A model or tool that an episode can call: relative frequency, usual and maximum amount."""

    name: str
    is_model: bool
    share: float
    usual: Amount
    most: Amount


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit of the budget, and the amount of each case without it."""

    key: str
    limit: float  # dollars or calls
    unlimited: Mapping[Case, float]


@dataclass(frozen=True, slots=True)
class Forecast:
    """`by_case` has the same names in each case. `refused` holds the items that the budget never
    grants, with the maximum nano-dollars of a call."""

    trained_episodes: int
    measured_episodes: int
    calls: float
    response_tokens: int
    sampled_toolsets: bool
    by_case: Mapping[Case, Amounts]
    limits: tuple[Reached, ...]
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Phase:
    """Episodes of one kind. `repeat`: how often the episodes of `toolsets` happen."""

    toolsets: Sequence[ToolsetSample]
    toolsets_a_step: int | None  # None: evaluation, which has no steps
    episodes_a_toolset: int
    repeat: float
    by_policy: bool  # else by a router, which calls one model and costs nothing itself


def forecast(
    config: Config,
    catalogue: Catalogue,
    question_tokens: int,
    training: bool,
    calls: float | None = None,
) -> Forecast:
    """Returns the forecast. calls: per episode of the expected case; None: the geometric mean of
    the low and the high case."""
    expected_calls = math.sqrt(config.rollout.max_turns) if calls is None else calls
    phases = list(_phases(config, catalogue, training))
    forecaster = _Forecaster(config, catalogue, question_tokens, expected_calls)
    by_case = {case: forecaster.run(phases, case) for case in Case}
    names = sorted({name for amounts in by_case.values() for name in amounts})
    loop, evaluation = config.training, config.evaluation
    groups = loop.steps * loop.groups_per_step if training else 0
    policies = (2 if training else 1) + len(evaluation.baselines)
    return Forecast(
        trained_episodes=groups * loop.group_size,
        measured_episodes=evaluation.tasks * policies,
        calls=expected_calls,
        response_tokens=forecaster.response_tokens,
        sampled_toolsets=max(groups, evaluation.tasks) > MOST_SAMPLES,
        by_case={
            case: {name: amounts.get(name, Amount()) for name in names}
            for case, amounts in by_case.items()
        },
        limits=tuple(forecaster.reached()),
        refused=forecaster.refused,
    )


def total(amounts: Amounts) -> Amount:
    return sum(amounts.values(), Amount())


def items_of(toolset: ToolsetSample, catalogue: Catalogue, question_tokens: int) -> list[Item]:
    """Returns the items of a toolset sample; a recipe is divided among its models."""
    items = []
    for option in toolset.options:
        ways = [resolve_choice(option, choice.alias) for choice in option.choices] or [option]
        items += [_item(way, catalogue, question_tokens, 1 / len(ways)) for way in ways if way]
    return items


def _item(option: ToolOption, catalogue: Catalogue, question_tokens: int, share: float) -> Item:
    entry = catalogue.entries[option.identity]
    doer = catalogue.entries[option.choices[0].identity] if option.choices else entry
    is_model = option.kind == "model" or bool(option.choices)
    room = entry.limits.context_tokens
    usage = Usage(
        input_tokens=min(question_tokens + TEMPLATE_TOKENS, room) if is_model else 0,
        output_tokens=min(doer.output_tokens, entry.limits.max_output_tokens) if is_model else 0,
        searches=1 if option.prices.search_nanousd else 0,
    )
    most_nanousd = most_cost_nanousd(entry, option.prices)
    usual_nanousd = min(most_nanousd, option.prices.cost_nanousd(usage, option.latency_s))
    most = (float(room), float(entry.limits.max_output_tokens)) if is_model else (0.0, 0.0)
    return Item(
        name=doer.name,
        is_model=option.kind == "model",
        share=share,
        usual=Amount(1, usage.input_tokens, usage.output_tokens, usual_nanousd),
        most=Amount(1, *most, most_nanousd),
    )


def _phases(config: Config, catalogue: Catalogue, training: bool) -> Iterator[_Phase]:
    """Yields training, as its first steps; then the held-out tasks by policy and by routers."""

    def toolsets(seed: int, count: int) -> list[ToolsetSample]:
        seeds = (derive_seed(seed, "group", n) for n in range(count))
        return [sample_toolset(catalogue, config.catalogue, one) for one in seeds]

    loop, evaluation = config.training, config.evaluation
    if training:
        steps = min(loop.steps, max(1, MOST_SAMPLES // loop.groups_per_step))
        trained = toolsets(config.seed, steps * loop.groups_per_step)
        yield _Phase(trained, loop.groups_per_step, loop.group_size, loop.steps / steps, True)
    if evaluation.tasks:
        heldout = toolsets(evaluation.seed, min(evaluation.tasks, MOST_SAMPLES))
        repeat = evaluation.tasks / len(heldout)
        yield _Phase(heldout, None, 1, repeat * (2 if training else 1), True)
        yield _Phase(heldout, None, 1, repeat * len(evaluation.baselines), False)


@dataclass(slots=True)
class _Forecaster:
    """The assumptions about an episode. Records refused items and the peaks at each limit."""

    config: Config
    catalogue: Catalogue
    question_tokens: int
    calls: float
    limits: SpendLimits = field(init=False)
    refused: dict[str, int] = field(default_factory=dict)
    _peaks: dict[tuple[str, Case], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limits = limits_of(self.config.spend)

    @property
    def response_tokens(self) -> int:
        """Of an expected turn of the policy: the geometric mean of a short and the longest one."""
        most = self.config.rollout.max_response_tokens
        return round(math.sqrt(min(LEAST_RESPONSE_TOKENS, most) * most))

    def run(self, phases: Iterable[_Phase], case: Case) -> Amounts:
        spent: dict[str, Amount] = {}
        own = Amount()
        for phase in phases:
            size = phase.toolsets_a_step or len(phase.toolsets)
            for start in range(0, len(phase.toolsets), size):
                step: dict[str, Amount] = {}
                for toolset in phase.toolsets[start : start + size]:
                    episode, generated = self._episode(toolset, phase.by_policy, case)
                    _add(step, episode, phase.episodes_a_toolset)
                    own += generated.times(phase.episodes_a_toolset * phase.repeat)
                within = self._within("step", step, case) if phase.toolsets_a_step else step
                _add(spent, within, phase.repeat)
        return {**self._within("run", spent, case), POLICY: own}

    def reached(self) -> Iterator[Reached]:
        for scope in ("episode", "step", "run"):
            for unit, per in (("usd", 1e9), ("calls", 1.0)):
                limit = getattr(self.config.spend, f"{scope}_{unit}")
                if limit is not None:
                    key = f"{scope}_{unit}"
                    unlimited = {c: self._peaks.get((key, c), 0.0) / per for c in Case}
                    yield Reached(f"spend.{key}", limit, unlimited)

    def _episode(
        self, toolset: ToolsetSample, by_policy: bool, case: Case
    ) -> tuple[Amounts, Amount]:
        """Returns the amounts of an episode's calls, and of the policy's own tokens."""
        rollout = self.config.rollout
        items = items_of(toolset, self.catalogue, self.question_tokens)
        granted = [item for item in items if self._grants(item)]
        calls = {Case.LOW: 1.0, Case.EXPECTED: self.calls}.get(case, float(rollout.max_turns))
        own = self._policy_amount(toolset, calls, case) if by_policy else Amount()
        if not by_policy:
            granted, calls = [item for item in granted if item.is_model], 1.0
        return self._within("episode", _mixed(granted, calls, case), case), own

    def _grants(self, item: Item) -> bool:
        """Returns whether the budget grants the maximum cost of a call; records refusals."""
        limits, most_nanousd = self.limits, int(item.most.nanousd)
        scopes = (
            limits.call_nanousd,
            limits.episode_nanousd,
            limits.step_nanousd,
            limits.run_nanousd,
        )
        if all(limit is None or most_nanousd <= limit for limit in scopes):
            return True
        self.refused[item.name] = max(most_nanousd, self.refused.get(item.name, 0))
        return False

    def _within(self, scope: str, amounts: Amounts, case: Case) -> Amounts:
        """Returns the amounts, scaled down to the limits of the scope."""
        whole = total(amounts)
        self._note(f"{scope}_usd", case, whole.nanousd)
        self._note(f"{scope}_calls", case, whole.calls)
        money = getattr(self.limits, f"{scope}_nanousd")
        calls = getattr(self.limits, f"{scope}_calls")
        factor = 1.0
        for limit, amount in ((money, whole.nanousd), (calls, whole.calls)):
            if limit is not None and amount > limit:
                factor = min(factor, limit / amount)
        return {name: amount.times(factor) for name, amount in amounts.items()}

    def _note(self, key: str, case: Case, amount: float) -> None:
        self._peaks[key, case] = max(amount, self._peaks.get((key, case), 0.0))

    def _policy_amount(self, toolset: ToolsetSample, calls: float, case: Case) -> Amount:
        rollout = self.config.rollout
        functions = json.dumps(signatures(toolset, self.config.catalogue.submit))
        opening = min(tokens(functions) + self.question_tokens, rollout.max_prompt_tokens)
        least = min(LEAST_RESPONSE_TOKENS, rollout.max_response_tokens)
        response = {Case.LOW: least, Case.EXPECTED: self.response_tokens}.get(case)
        usage = _policy_usage(rollout, opening, calls, response)
        cost = _policy_prices(self.config.model).cost_nanousd(usage)
        return Amount(0, usage.input_tokens, usage.output_tokens, cost)


def _policy_usage(
    rollout: RolloutConfig, opening: int, calls: float, response: int | None
) -> Usage:
    """Returns the policy's tokens in an episode, where each turn reads all turns before it.

    An observation is assumed to be as long as a response. `response` None: the maximum.
    """
    room = rollout.max_prompt_tokens + rollout.max_response_tokens - opening
    if response is None:
        said = min(rollout.max_turns * rollout.max_response_tokens, room)
        return Usage(rollout.max_turns * rollout.max_prompt_tokens, output_tokens=said)
    turns = min(calls + 1, rollout.max_turns)
    last = min(opening + 2 * response * (turns - 1), rollout.max_prompt_tokens)
    said = min(round(turns * response), room)
    return Usage(round(turns * (opening + last) / 2), output_tokens=said)


def _policy_prices(model: ModelConfig) -> Prices:
    price_in = nanousd(model.input_usd_per_mtok)
    return Prices(price_in, price_in, nanousd(model.output_usd_per_mtok))


def _mixed(items: Sequence[Item], calls: float, case: Case) -> Amounts:
    """Returns the amounts of `calls` calls, spread over the items as the case assumes."""
    if not items:
        return {}
    if case is Case.WORST:
        costliest = max(items, key=lambda item: item.most.nanousd)
        return {costliest.name: costliest.most.times(calls)}
    mixed: dict[str, Amount] = {}
    shares = sum(item.share for item in items)
    for item in items:
        amount = item.most if case is Case.HIGH else item.usual
        _add(mixed, {item.name: amount}, calls * item.share / shares)
    return mixed


def _add(sums: dict[str, Amount], amounts: Amounts, factor: float) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, Amount()) + amount.times(factor)
