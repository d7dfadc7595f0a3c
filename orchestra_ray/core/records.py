"""The records that travel between roles: frozen, picklable, without behaviour of their own.

From the driver to a worker: `GroupSpec` (task, draw, preference, seeds). From a worker: a
`Trajectory` into the object store and its `Card` to the driver. Axis suffixes: `_T` tokens of one
trajectory, `_G` episodes of one group, `_K` reward features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestra_ray.core import policy_names as baselines
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.states import Stop


@dataclass(frozen=True, slots=True)
class Task:
    """A problem with a checker. `payload` is what the checker needs, plain JSON."""

    task_id: str
    family: str
    question: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolOption:
    """One model or tool as one task sees it: an alias with this draw's price and latency."""

    alias: str
    identity: str  # the catalogue's name for what stands behind the alias
    kind: str  # "model" or "tool"
    description: str
    prices: Prices
    latency_s: float
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of a tool: their JSON schema
    price_sheet: str = ""  # the version of the sheet that the prices are from
    choices: tuple["ToolOption", ...] = ()  # of a recipe: the models that it can be done by
    terminal: bool = False  # the reply ends the episode as its answer
    signature: Mapping[str, Any] | None = None  # the function word for word, where it is given so


@dataclass(frozen=True, slots=True)
class ToolsetSample:
    """The catalogue as one task sees it."""

    seed: int
    options: tuple[ToolOption, ...]

    def option(self, alias: str) -> ToolOption | None:
        return next((o for o in self.options if o.alias == alias), None)


@dataclass(frozen=True, slots=True)
class Preference:
    """What the user asks for: the instruction stands in the prompt, the weights in the reward.

    Weights lie in [0, 1]. `tools` maps an offer's identity to its weight; absent means 0.
    """

    name: str
    instruction: str
    outcome: float
    cost: float
    latency: float
    tools: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One attempt. `seed` decides the sampling and every simulated outcome in it."""

    episode_id: str
    seed: int


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """G episodes of one task under one draw and one preference.

    `step` is the training step that the group was dispatched for; 0 stands for a measurement.
    """

    group_id: str
    step: int
    task: Task
    toolset: ToolsetSample
    preference: Preference
    episodes: tuple[EpisodeSpec, ...]
    policy: str = baselines.MODEL  # who plays
    max_turns: int | None = None  # None: as configured
    greedy: bool = False  # evaluation: temperature 0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked: a turn of an episode of a group, in a step."""

    step: int
    group_id: str
    episode_id: str
    turn: int


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One well-formed call that the policy asked for. `call_id` is its idempotency key."""

    call_id: str
    caller: Caller
    option: ToolOption  # what is called, under this draw's alias, price and latency
    arguments: Mapping[str, Any]  # of a tool, checked against its schema; a model has none
    task: Task
    seed: int
    attempt: int  # how many calls of this episode went before
    found: tuple[str, ...] = ()  # by tools of this episode before; what a recipe's model reads
    reissues: int = 0  # how often the call was given to an executor that died
    waited_s: float = 0.0  # at its client, until this issue was sent
    messages: tuple[Mapping[str, Any], ...] = ()  # of a model that is the policy: what it reads
    functions: tuple[Mapping[str, Any], ...] = ()  # and what it may call


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One call and what it cost; all its attempts together, charged once.

    charged_nanousd: what a provider bills, failed attempts included; 0 for a replay.
    usage: what all attempts together told. saved_nanousd: what a replay would have cost. queue_s:
    waiting at the client, in the executor, and for limits and the guard. service_s: the tool's own
    time, on a simulated clock where it has one. cache_hit: a result from a cache of ours, or input
    that the provider had cached.
    """

    call_id: str
    caller: Caller
    identity: str  # "policy" for the policy's own tokens
    alias: str
    kind: str  # "policy", "model" or "tool"
    price_sheet: str
    usage: Usage
    charged_nanousd: int
    service_s: float
    saved_nanousd: int = 0
    queue_s: float = 0.0
    retries: int = 0
    hedges: int = 0
    replayed: bool = False
    error: str | None = None  # the class of its fault
    model: str = ""  # who did it: the model itself, or the one behind a recipe
    cache_hit: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache_hit", self.cache_hit or self.usage.cached_tokens > 0)

    @property
    def price_nanousd(self) -> int:
        """What the call is worth to who asked: a replay weighs as much as the call that it is."""
        return self.charged_nanousd + self.saved_nanousd


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back: the text that the policy reads, and the entry that was charged."""

    text: str
    entry: LedgerEntry
    error: str | None = None  # the class of the fault, where it was the call's own


@dataclass(frozen=True, slots=True)
class Turn:
    """Response tokens [start, end) of the trajectory."""

    start: int
    end: int
    format_ok: bool  # a well-formed tool call or a final answer


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The payload of an ended episode: what was sampled is what will be trained.

    tokens_T: int32, prompt, responses and observations in the order the engine saw them; where the
    context policy starts new sequences (at `starts`, ascending from 0), one after another.
    mask_T: bool, True where the policy sampled the token.
    logprobs_T: float32, the behaviour policy's; 0 outside the mask.
    versions_T: int32, the weight version that sampled the token; -1 outside the mask.
    """

    episode_id: str
    tokens_T: np.ndarray
    mask_T: np.ndarray
    logprobs_T: np.ndarray
    versions_T: np.ndarray
    turns: tuple[Turn, ...]
    ledger: tuple[LedgerEntry, ...]
    answer: str | None
    stop: Stop
    starts: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Part:
    """One training sequence of a trajectory."""

    tokens: int
    response_tokens: int
    turns: int
    format_ok: bool  # of one turn of it at least


OK = "ok"  # the outcome of a call without a fault


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """The metadata of an ended episode: some hundred bytes, all that the driver sees of it.

    `outcomes` counts the calls that were made: of tools and models, and the turns of a policy that
    is behind an endpoint. A call that was wrong in itself was not made.
    """

    episode_id: str
    group_id: str
    stop: Stop
    failure: Failure | None
    answered: bool
    tokens: int  # of the trajectory
    response_tokens: int
    turns: int
    turns_well_formed: int
    version_min: int
    version_max: int
    price_nanousd: int
    latency_s: float
    generate_s: float
    tools_s: float
    calls: Mapping[str, int] = field(default_factory=dict)  # by identity
    parts: tuple[Part, ...] = ()  # the trajectory's sequences, in their order
    models: Mapping[str, int] = field(default_factory=dict)  # calls by the model that did them
    outcomes: Mapping[str, int] = field(default_factory=dict)  # calls by class of fault, or OK


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """One episode's part of a scored group.

    turn_advantages: one a turn; empty: every turn has `advantage`. parts: what the outcome, cost,
    latency and tools add to the reward.
    """

    episode_id: str
    correct: bool
    reward: float
    advantage: float
    turn_advantages: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupScore:
    """`keep` is False where the group teaches nothing; `reason` then names why, for a counter.

    `unscorable`: answers that are wrong because their scorer could not score them.
    """

    group_id: str
    episodes: tuple[EpisodeScore, ...]
    keep: bool
    failure: Failure | None = None
    reason: str | None = None
    unscorable: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """`key` is the attempt's: its call's, a point, its number. `most_nanousd` bounds its bill.

    `free`: the keys of attempts of the same issue that have ended and cost nothing.
    """

    key: str
    caller: Caller
    most_nanousd: int
    free: tuple[str, ...] = ()

    @property
    def call(self) -> str:
        """One issue of a call."""
        return self.key.rpartition(".")[0]

    @property
    def call_id(self) -> str:
        """The call with all its issues."""
        return self.call.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class Settlement:
    """An ended call: its entry, and (key, charged) of each of its attempts that was made.

    `call` is the entry's call id with the number of its issue, and the head of the attempts' keys.
    """

    call: str
    entry: LedgerEntry
    charges: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """A call whose executor died, or never answered."""

    request: ToolRequest
