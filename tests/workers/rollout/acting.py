"""Episodes without an engine: scripted policies, and a tool pool in the same process."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import (
    EpisodeSummary,
    GroupSpec,
    LedgerEntry,
    Settlement,
    ToolRequest,
    ToolResult,
    Trajectory,
)
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.episode import EpisodeContext, run_episode
from orchestra_ray.workers.rollout.parsing import call_json
from orchestra_ray.workers.rollout.policies import Completion, Policy, PolicyInput
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor


class Direct:
    """A tool caller that uses an executor directly, without a pool."""

    def __init__(self, catalogue: Catalogue, spend: Any):
        self.spend = spend
        self._executor = Executor(catalogue, make_tools(catalogue), spend)

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        return await self._executor.execute(request)

    def enter(self, entry: LedgerEntry) -> None:
        self.spend.enter(Settlement(entry.call_id, entry))

    async def drain(self) -> int:
        return 0


class Script:
    """Returns the given texts in turn, with artificial log-probabilities and versions."""

    def __init__(
        self, chat: Chat, texts: Sequence[str], finish: str = "stop", end_id: int | None = None
    ):
        self.chat, self.texts, self.finish = chat, list(texts), finish
        self.end_id = chat.end_id if end_id is None else end_id
        self.prompts: list[list[int]] = []

    async def respond(self, policy_input: PolicyInput) -> Completion:
        self.prompts.append(list(policy_input.prompt_ids))
        ids = [*self.chat.encode_response(self.texts[len(self.prompts) - 1]), self.end_id]
        turn = len(self.prompts)
        return Completion(ids, [-0.5 * turn] * len(ids), [turn] * len(ids), self.finish)


def run_policy(
    episode_context: EpisodeContext, policy: Policy, group: GroupSpec
) -> tuple[Trajectory | None, EpisodeSummary]:
    acting = replace(episode_context, policies={**episode_context.policies, "model": policy})
    return asyncio.run(run_episode(acting, group, group.episodes[0]))


def first_model(group: GroupSpec) -> str:
    return next(option.alias for option in group.toolset.options if option.kind == "model")


def ask(group: GroupSpec) -> str:
    return tool_call_text("ask", {"model": first_model(group)})


def tool_call_text(name: str, arguments: Mapping[str, object]) -> str:
    """Returns a call in Hermes form, for a `Script`."""
    return f"<tool_call>\n{call_json(name, arguments)}\n</tool_call>"
