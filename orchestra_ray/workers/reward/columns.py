"""The columns of a group's features, and the amounts of an episode, from the ledger only.

The columns are the tools, then the outcome, dollars and seconds. Each option of the toolset has a
column that counts calls under its identity, followed by the models and families named in the
preference (`orchestra_ray.data.catalogue.keys`).

A replayed call counts in full. In `released` mode the amounts are those of the published code
(NVlabs, 67bb7c7): one column per alias instead of identities, models and families; only the first
call of a turn counts; a terminal call has no cost and no latency; the policy's latency is excluded,
the cost of its tokens is included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from orchestra_ray.core.money import usd
from orchestra_ray.core.records import LedgerEntry, ToolOption, ToolsetSample, Trajectory
from orchestra_ray.data.catalogue.keys import FAMILY, MODEL, is_counted
from orchestra_ray.workers.reward.settings import Weights


class RewardPart(StrEnum):
    """The parts of a reward."""

    TOOLS = "tools"  # calls of preferred tools, models and families
    OUTCOME = "outcome"  # right or wrong
    COST = "cost"  # dollars
    LATENCY = "latency"  # seconds


SPENT = (RewardPart.COST, RewardPart.LATENCY)  # the last columns, in this order


@dataclass(frozen=True, slots=True)
class Column:
    """`key` names the counted amount; `part`: its part of the reward."""

    key: str
    part: RewardPart
    weight: float

    @property
    def minimise(self) -> bool:
        return self.part in SPENT


@dataclass(frozen=True, slots=True, eq=False)
class Amounts:
    """calls_K: in the tools' columns. total_2, spent_T_2: dollars and seconds, all and by turn."""

    calls_K: tuple[float, ...]
    total_2: tuple[float, float]
    spent_T_2: np.ndarray

    def row(self, correct: bool) -> list[float]:
        """Returns the row of features, in the order of the columns."""
        return [*self.calls_K, float(correct), *self.total_2]


def columns(toolset: ToolsetSample, weights: Weights, released: bool = False) -> tuple[Column, ...]:
    named = _by_alias(toolset, weights) if released else _by_identity(toolset, weights)
    return (
        *(Column(key, RewardPart.TOOLS, weight) for key, weight in named),
        Column("outcome", RewardPart.OUTCOME, weights.outcome),
        Column("usd", RewardPart.COST, weights.usd),
        Column("seconds", RewardPart.LATENCY, weights.seconds),
    )


def amounts(
    toolset: ToolsetSample,
    columns: Sequence[Column],
    trajectory: Trajectory,
    released: bool = False,
) -> Amounts:
    tools = [column.key for column in columns if column.part is RewardPart.TOOLS]
    paid = timed = trajectory.ledger
    if released:
        firsts = _first_calls(trajectory.ledger, set(tools))
        calls = [sum(entry.alias == key for entry in firsts) for key in tools]
        paid = tuple(entry for entry in paid if not _ended(toolset, entry))
        timed = tuple(entry for entry in paid if entry.kind != "policy")
    else:
        done = [(entry.identity, entry.model) for entry in trajectory.ledger]
        calls = [sum(is_counted(key, *by) for by in done) for key in tools]
    turns = max([len(trajectory.turns), *(entry.caller.turn + 1 for entry in paid)])
    nanousd_T, seconds_T = [0] * turns, [0.0] * turns
    for entry in paid:
        nanousd_T[entry.caller.turn] += entry.price_nanousd
    for entry in timed:
        seconds_T[entry.caller.turn] += entry.service_s
    return Amounts(
        calls_K=tuple(float(count) for count in calls),
        total_2=(usd(sum(nanousd_T)), sum(entry.service_s for entry in timed)),
        spent_T_2=np.array([[usd(n) for n in nanousd_T], seconds_T]).T,
    )


def _by_identity(toolset: ToolsetSample, weights: Weights) -> list[tuple[str, float]]:
    keys = [option.identity for option in toolset.options]
    keys += [key for key in weights.tools if key.startswith((MODEL, FAMILY)) and key not in keys]
    return [(key, weights.tools.get(key, 0.0)) for key in keys]


def _by_alias(toolset: ToolsetSample, weights: Weights) -> list[tuple[str, float]]:
    """Weighs aliases by their name, or by the option's identity if the name has no weight."""
    return [
        (one.alias, weights.tools.get(one.alias, weights.tools.get(option.identity, 0.0)))
        for option in toolset.options
        for one in (option.choices or (option,))
    ]


def _first_calls(ledger: Iterable[LedgerEntry], aliases: set[str]) -> list[LedgerEntry]:
    """Returns the first call in each turn of an alias of the toolset."""
    first: dict[int, LedgerEntry] = {}
    for entry in ledger:
        if entry.alias in aliases:
            first.setdefault(entry.caller.turn, entry)
    return list(first.values())


def _ended(toolset: ToolsetSample, entry: LedgerEntry) -> bool:
    """Returns whether the call gave the episode's answer."""
    return entry.error is None and any(
        option.terminal and _is_of(option, entry) for option in toolset.options
    )


def _is_of(option: ToolOption, entry: LedgerEntry) -> bool:
    return entry.kind == option.kind and entry.identity == option.identity
