"""Records that processes exchange: frozen, picklable, without behaviour of their own.

- driver to rollout worker: `GroupSpec`, with the task, toolset, preference and seeds of a group.
- rollout worker to object store: `Trajectory`, which the scorer and the learner read from there.
- rollout worker to driver: `EpisodeSummary`, beside the reference of the trajectory.
- scorer to driver: `GroupScore`, with an `EpisodeScore` for each episode.
- rollout worker to tool executor: `ToolRequest`; back: `ToolResult`, with its `LedgerEntry`.
- tool executor to spend actor: `Reservation` before each attempt, `Settlement` after the call. A
  rollout worker settles the policy's own tokens.
- rollout worker to spend actor: `Lost`, in place of the settlement of an executor that died.

Axis suffixes: `_T` tokens of one trajectory, `_G` episodes of one group, `_K` reward features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestra_ray.core import policy_names
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.states import Stop


@dataclass(frozen=True, slots=True)
class Task:
    """A problem with a grader. `payload` is the grader's input, plain JSON."""

    task_id: str
    family: str
    question: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolOption:
    """One model or tool of a toolset sample, with the sample's alias, prices and latency."""

    alias: str
    identity: str  # the name of its catalogue entry
    kind: str  # "model" or "tool"
    description: str
    prices: Prices
    latency_s: float
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of a tool: a JSON schema
    price_sheet: str = ""  # the version of the price sheet
    choices: tuple["ToolOption", ...] = ()  # of a recipe: its models
    terminal: bool = False  # the reply is the answer and ends the episode
    signature: Mapping[str, Any] | None = None  # the function's schema, if it is given verbatim


@dataclass(frozen=True, slots=True)
class ToolsetSample:
    """The catalogue as one task sees it."""

    seed: int
    options: tuple[ToolOption, ...]

    def option(self, alias: str) -> ToolOption | None:
        return next((o for o in self.options if o.alias == alias), None)


@dataclass(frozen=True, slots=True)
class Preference:
    """A user preference: the instruction is part of the prompt, the weights of the reward.

    Weights lie in [0, 1]. `tools` maps the identity of an option to its weight; absent means 0.
    """

    name: str
    instruction: str
    outcome: float
    cost: float
    latency: float
    tools: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One attempt at a task. `seed` determines its sampling and all its simulated outcomes."""

    episode_id: str
    seed: int


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """G episodes of one task with one toolset sample and one preference.

    step: the training step that the group is dispatched for; 0 in an evaluation.
    """

    group_id: str
    step: int
    task: Task
    toolset: ToolsetSample
    preference: Preference
    episodes: tuple[EpisodeSpec, ...]
    policy: str = policy_names.MODEL  # the name of the policy that runs it
    max_turns: int | None = None  # None: as configured
    greedy: bool = False  # evaluation: temperature 0


@dataclass(frozen=True, slots=True)
class Caller:
    """The turn, episode, group and step that make a call."""

    step: int
    group_id: str
    episode_id: str
    turn: int


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One well-formed call of the policy. `call_id` is its idempotency key."""

    call_id: str
    caller: Caller
    option: ToolOption  # the called model or tool
    arguments: Mapping[str, Any]  # of a tool, validated against its schema; empty for a model
    task: Task
    seed: int
    attempt: int  # the number of earlier calls of the episode
    found: tuple[str, ...] = ()  # results of earlier tools of the episode, for a recipe's model
    reissues: int = 0  # how many executors died during the call
    waited_s: float = 0.0  # at the client, until the request was sent
    messages: tuple[Mapping[str, Any], ...] = ()  # the prompt of a model that is the policy
    functions: tuple[Mapping[str, Any], ...] = ()  # and its functions


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One call and its cost: all its attempts together, charged once.

    charged_nanousd: the provider's bill, failed attempts included; 0 for a replay.
    saved_nanousd: the bill that a replay avoided. usage: the sum over all attempts. queue_s: the
    wait at the client, in the executor, and for limits and the spend budget. service_s: the tool's
    own time, simulated if the tool is. cache_hit: the result is from our cache, or the provider had
    cached a part of the input.
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
    error: str | None = None  # the kind of its fault
    model: str = ""  # the model called, or the model of a recipe
    cache_hit: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache_hit", self.cache_hit or self.usage.cached_tokens > 0)

    @property
    def price_nanousd(self) -> int:
        """The price of the call in the reward: a replay costs as much as the recorded call."""
        return self.charged_nanousd + self.saved_nanousd


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The reply to a call: the text for the policy, and the ledger entry."""

    text: str
    entry: LedgerEntry
    error: str | None = None  # the kind of the fault, if the call was invalid


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn: the response tokens [start, end) of the trajectory."""

    start: int
    end: int
    format_ok: bool  # it is a well-formed tool call or a final answer


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The payload of an ended episode: exactly the sampled tokens are trained.

    tokens_T: int32, prompt, responses and observations in the order of the engine's input. If the
    context policy starts new sequences, they are concatenated; `starts` ascend from 0.
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
    format_ok: bool  # of at least one of its turns


OK = "ok"  # the outcome of a call without a fault


@dataclass(frozen=True, slots=True)
class EpisodeSummary:
    """The metadata of an ended episode: some hundred bytes, and all that reaches the driver.

    outcomes: counts the executed calls of tools and models, and the turns of a policy behind an
    endpoint. An invalid call is not executed.
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
    parts: tuple[Part, ...] = ()  # the trajectory's training sequences, in order
    models: Mapping[str, int] = field(default_factory=dict)  # calls by the model that ran them
    outcomes: Mapping[str, int] = field(default_factory=dict)  # calls by kind of fault, or OK


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """The score of one episode of a group.

    turn_advantages: one per turn; if empty, every turn has `advantage`. parts: the contributions of
    outcome, cost, latency and tools to the reward.
    """

    episode_id: str
    correct: bool
    reward: float
    advantage: float
    turn_advantages: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The scores of a group, or the failure of its scoring.

    keep: False if the group is not trained; `reason` is then the `DropReason`. unscorable: the
    number of answers that count as wrong because their grader failed.
    """

    group_id: str
    episodes: tuple[EpisodeScore, ...]
    keep: bool
    failure: Failure | None = None
    reason: str | None = None
    unscorable: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A request to the spend budget before one attempt of a call.

    key: "<call id>#<reissues>.<attempt>". most_nanousd: an upper bound of the attempt's bill.
    free: the keys of earlier attempts of the same request that have ended without a charge.
    """

    key: str
    caller: Caller
    most_nanousd: int
    free: tuple[str, ...] = ()

    @property
    def call(self) -> str:
        """The call with the number of its reissues."""
        return self.key.rpartition(".")[0]

    @property
    def call_id(self) -> str:
        """The id of the call, the same over all reissues."""
        return self.call.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class Settlement:
    """An ended call: its ledger entry, and (key, nano-dollars) of each attempt that was made.

    call: "<call id>#<reissues>", the prefix of the attempts' keys; the id alone of a policy's turn.
    """

    call: str
    entry: LedgerEntry
    charges: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """A call whose executor died or never answered, so that its outcome is unknown."""

    request: ToolRequest
