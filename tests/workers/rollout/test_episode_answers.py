"""Calls that end an episode with an answer: `submit`, and tools that are terminal."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.faults import Failure, Fault, FaultKind
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import Catalogue, load_catalogue, sample_toolset
from orchestra_ray.data.tasks.reasoning_gym import reference
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.workers.rollout.episode import EpisodeContext, run_episode

from .acting import Direct, Script, ask, run_policy, tool_call_text


def submit(reply: object) -> str:
    return tool_call_text("submit", {"reply": reply})


def test_a_submitted_reply_is_the_answer_word_for_word(
    episode_context: EpisodeContext, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    trajectory, summary = run_policy(
        episode_context, Script(episode_context.chat, [ask(group), ask(group), submit(1)]), group
    )
    assert trajectory is not None and summary.stop is Stop.ANSWERED and summary.turns == 3
    observation = episode_context.chat.observation([str(trajectory.answer)], 100)
    after_first_turn = trajectory.tokens_T[trajectory.turns[0].end :].tolist()
    assert after_first_turn[: len(observation)] == observation


@pytest.mark.parametrize(
    ("arguments", "says", "kind"),
    [
        ({"reply": 0}, "there is no reply 0; there are 1", "bad_input"),
        ({"reply": 2}, "there is no reply 2", "bad_input"),
        ({"reply": -1}, "there is no reply -1", "bad_input"),
        ({"reply": "1"}, "argument reply must be of type integer", "wrong_type"),
        ({"reply": 1.5}, "argument reply must be of type integer", "wrong_type"),
        ({"reply": True}, "argument reply must be of type integer", "wrong_type"),
        ({"reply": None}, "argument reply must be of type integer", "wrong_type"),
        ({"reply": [1]}, "argument reply must be of type integer", "wrong_type"),
        ({}, "argument reply is missing", "missing_argument"),
        ({"reply": 1, "why": "so"}, "there is no argument why", "extra_argument"),
    ],
)
def test_a_bad_submission_is_an_observation_that_names_it_and_counts(
    episode_context: EpisodeContext,
    sampler: GroupSampler,
    arguments: dict[str, Any],
    says: str,
    kind: str,
) -> None:
    group = sampler.group(0, 1)
    bad = tool_call_text("submit", arguments)
    trajectory, summary = run_policy(
        episode_context, Script(episode_context.chat, [ask(group), bad, "7"]), group
    )
    assert trajectory is not None and trajectory.answer == "7"
    assert f"error: {says}" in episode_context.chat.decode(trajectory.tokens_T.tolist())
    assert [e.error for e in trajectory.ledger if e.kind != "policy"] == [None, kind]
    assert isinstance(episode_context.tools, Direct)
    assert episode_context.tools.spend.ledger.metrics()[f"ledger/fault/{kind}"] == 1
    assert len({entry.call_id for entry in trajectory.ledger}) == len(trajectory.ledger)


def test_a_whole_number_written_as_a_decimal_submits(
    episode_context: EpisodeContext, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    trajectory, _ = run_policy(
        episode_context, Script(episode_context.chat, [ask(group), submit(1.0)]), group
    )
    assert trajectory is not None and trajectory.stop is Stop.ANSWERED


class FailsFirst(Direct):
    """Has no answer to the first call."""

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        result = await super().call(request)
        if request.attempt > 0 or isinstance(result, Failure):
            return result
        fault = Fault(FaultKind.SERVER_ERROR, "the endpoint is down")
        return replace(result, text=f"error: {fault}", error=fault.kind.value)


def test_only_replies_that_are_answers_can_be_submitted(
    episode_context: EpisodeContext, catalogue: Catalogue, sampler: GroupSampler
) -> None:
    group, tools = sampler.group(0, 1), episode_context.tools
    assert isinstance(tools, Direct)
    failing = replace(episode_context, tools=FailsFirst(catalogue, tools.spend))
    script = Script(episode_context.chat, [ask(group), submit(1), ask(group), submit(1)])
    trajectory, summary = run_policy(failing, script, group)
    assert trajectory is not None and summary.stop is Stop.ANSWERED and summary.turns == 4
    assert "error" not in str(trajectory.answer)
    assert "there is no reply 1; there are 0" in episode_context.chat.decode(
        trajectory.tokens_T.tolist()
    )


def test_a_router_whose_call_failed_ends_with_the_error(
    episode_context: EpisodeContext, catalogue: Catalogue, sampler: GroupSampler
) -> None:
    group, tools = replace(sampler.group(0, 1), policy="cheapest"), episode_context.tools
    assert isinstance(tools, Direct)
    failing = replace(episode_context, tools=FailsFirst(catalogue, tools.spend))
    trajectory, summary = asyncio.run(run_episode(failing, group, group.episodes[0]))
    assert trajectory is not None and summary.stop is Stop.ANSWERED and summary.turns == 2
    assert trajectory.answer == "error: the endpoint is down"


def test_submit_is_a_tool_like_any_other_where_it_is_not_offered(
    episode_context: EpisodeContext, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    without = replace(episode_context, submit=False)
    trajectory, _ = run_policy(
        without, Script(episode_context.chat, [ask(group), submit(1), "7"]), group
    )
    assert trajectory is not None and trajectory.answer == "7"
    assert [e.error for e in trajectory.ledger if e.kind != "policy"] == [None, "unknown_tool"]


THREE_TOOLS = """
models:
  - {name: nova, description: knows, backend: simulated, latency_s: 1, output_tokens: 10,
     offered: false, prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}, skill: {default: 1.0}}
tools:
  - name: search
    description: looks it up
    backend: recipe
    runs: calculator
    parser: query_tag
    choices: &choices [{name: by-1, model: nova, description: knows, latency_s: 3}]
  - {name: answer, description: answers, backend: recipe, terminal: true, choices: *choices}
  - name: calculator
    description: computes
    backend: calculator
    offered: false
    latency_s: 1
    parameters: {type: object, properties: {expression: {type: string}}, required: [expression]}
"""


def test_a_recipe_is_called_by_a_models_name_and_a_terminal_one_answers(
    episode_context: EpisodeContext,
    sampler: GroupSampler,
    tmp_path: Path,
    local_spend: Callable[[], Any],
) -> None:
    path = tmp_path / "three.yaml"
    path.write_text(THREE_TOOLS)
    catalogue = load_catalogue(path)
    config = CatalogueConfig(path=str(path), price_factors=[1.0], latency_factors=[1.0])
    toolset = sample_toolset(catalogue, config, seed=1)
    task = replace(sampler.group(0, 1).task, question="6*7")
    group = replace(sampler.group(0, 1), toolset=toolset, task=task)
    search, answer = (toolset.option(name) for name in ("search", "answer"))
    assert search is not None and answer is not None

    class Watched(Direct):
        asked: list[ToolRequest] = []

        async def call(self, request: ToolRequest) -> ToolResult | Failure:
            self.asked.append(request)
            return await super().call(request)

    spend = local_spend()
    texts = [
        tool_call_text("search", {"model": "nova"}),
        tool_call_text("search", {"model": search.choices[0].alias}),
        tool_call_text("answer", {"model": answer.choices[0].alias}),
    ]
    tools = Watched(catalogue, spend)
    trajectory, summary = run_policy(
        replace(episode_context, tools=tools), Script(episode_context.chat, texts), group
    )
    assert trajectory is not None and summary.stop is Stop.ANSWERED and summary.turns == 3
    assert trajectory.answer == reference(task)
    told = [(e.identity, e.alias, e.model, e.error) for e in trajectory.ledger if e.kind == "tool"]
    assert told == [
        ("faulty call", "faulty call", "", "unknown_tool"),
        ("search", "search-1", "nova", None),
        ("answer", "answer-1", "nova", None),
    ]
    assert [request.found for request in tools.asked] == [(), ("42",)]
    assert all(request.arguments == {} for request in tools.asked)
    assert "choose from: search-1" in episode_context.chat.decode(trajectory.tokens_T.tolist())
    assert summary.price_nanousd == sum(entry.price_nanousd for entry in trajectory.ledger)
