"""The records that travel between roles: frozen, picklable, without behaviour of their own.

From the driver to a worker: `GroupSpec` (task, draw, preference, seeds). From a worker: a
`Trajectory` into the object store and its `Card` to the driver. Axis suffixes: `_T` tokens of one
trajectory, `_G` episodes of one group, `_K` reward features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestra_ray.core.states import Failure, Stop


@dataclass(frozen=True, slots=True)
class Task:
    """A problem with a checker. `payload` is what the checker needs, plain JSON."""

    task_id: str
    family: str
    question: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """One model or tool as one task sees it: an alias with this draw's price and latency."""

    alias: str
    identity: str  # the catalogue's name for what stands behind the alias
    kind: str  # "model" or "tool"
    description: str
    input_nanousd_per_mtok: int
    output_nanousd_per_mtok: int
    call_nanousd: int
    latency_s: float
    parameters: Mapping[str, str] = field(default_factory=dict)  # of a tool: name -> JSON type


@dataclass(frozen=True, slots=True)
class Draw:
    """The catalogue as one task sees it."""

    seed: int
    offers: tuple[Offer, ...]

    def offer(self, alias: str) -> Offer | None:
        return next((o for o in self.offers if o.alias == alias), None)


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
    """G episodes of one task under one draw and one preference."""

    group_id: str
    task: Task
    draw: Draw
    preference: Preference
    episodes: tuple[EpisodeSpec, ...]
    policy: str = "model"  # or the name of a scripted router
    greedy: bool = False  # evaluation: temperature 0


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call that the policy asked for. `call_id` is its idempotency key."""

    call_id: str
    turn: int
    name: str
    arguments: Mapping[str, Any]
    task: Task
    draw: Draw
    seed: int
    attempt: int  # how many calls of this episode went before


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One call that cost money or time, charged once; "policy" is who the policy's own are from."""

    call_id: str
    turn: int
    identity: str
    kind: str  # "policy", "model" or "tool"
    input_tokens: int
    output_tokens: int
    charged_nanousd: int
    service_s: float
    error: str | None = None


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

    tokens_T: int32, prompt, responses and observations in the order the engine saw them.
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


@dataclass(frozen=True, slots=True)
class Card:
    """The metadata of an ended episode: some hundred bytes, all that the driver sees of it."""

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
    charged_nanousd: int
    latency_s: float
    generate_s: float
    tools_s: float
    calls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """One episode's part of a scored group."""

    episode_id: str
    correct: bool
    reward: float
    advantage: float


@dataclass(frozen=True, slots=True)
class GroupScore:
    """`keep` is False where the rewards of the group hardly differ (the homogeneity filter)."""

    group_id: str
    episodes: tuple[EpisodeScore, ...]
    keep: bool
    failure: Failure | None = None
