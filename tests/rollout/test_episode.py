"""The episode with scripted policies and a tool pool in the same process: no engine is needed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from orchestra_ray.catalogue import Catalogue
from orchestra_ray.config import Config
from orchestra_ray.core.records import Card, GroupSpec, ToolRequest, ToolResult, Trajectory
from orchestra_ray.core.states import Failure, FailureKind, Stop
from orchestra_ray.rollout.chat import Chat
from orchestra_ray.rollout.episode import Stage, opening_ids, run_episode
from orchestra_ray.rollout.parsing import parse_hermes
from orchestra_ray.rollout.policy import Completion, Policy, Router, View, routers, tool_call_text
from orchestra_ray.tasks.sampler import GroupSampler
from orchestra_ray.tools.executor import Executor


class Direct:
    """The executor without a pool between."""

    def __init__(self, catalogue: Catalogue):
        self._executor = Executor(catalogue)

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        return await self._executor.execute(request)


class Script:
    """Says the given texts in turn, with made-up log-probabilities and versions."""

    def __init__(self, chat: Chat, texts: Sequence[str], finish: str = "stop"):
        self.chat, self.texts, self.finish = chat, list(texts), finish
        self.prompts: list[list[int]] = []

    async def respond(self, view: View) -> Completion:
        self.prompts.append(list(view.prompt_ids))
        ids = [*self.chat.encode_response(self.texts[len(self.prompts) - 1]), self.chat.end_id]
        turn = len(self.prompts)
        return Completion(ids, [-0.5 * turn] * len(ids), [turn] * len(ids), self.finish)


@pytest.fixture
def stage(chat: Chat, catalogue: Catalogue, quickstart: Config) -> Stage:
    policies: dict[str, Policy] = {
        name: Router(chat, choose) for name, choose in routers(catalogue).items()
    }
    tools = Direct(catalogue)
    limits = quickstart.rollout
    return Stage(chat, parse_hermes, policies, tools, quickstart.model, limits, submit=True)


def play(stage: Stage, policy: Policy, group: GroupSpec) -> tuple[Trajectory | None, Card]:
    acting = replace(stage, policies={**stage.policies, "model": policy})
    return asyncio.run(run_episode(acting, group, group.episodes[0]))


def first_model(group: GroupSpec) -> str:
    return next(offer.alias for offer in group.draw.offers if offer.kind == "model")


def ask(group: GroupSpec) -> str:
    return tool_call_text("ask", {"model": first_model(group)})


def test_history_only_grows_and_the_mask_marks_what_was_sampled(
    stage: Stage, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    script = Script(stage.chat, [f"<think>\nx\n</think>\n\n{ask(group)}", ask(group), "42"])
    trajectory, card = play(stage, script, group)
    assert trajectory is not None and card.failure is None
    tokens = trajectory.tokens_T.tolist()
    for prompt in script.prompts:
        assert tokens[: len(prompt)] == prompt
    said = [stage.chat.encode_response(text) + [stage.chat.end_id] for text in script.texts]
    assert trajectory.tokens_T[trajectory.mask_T].tolist() == sum(said, [])
    assert [t.end - t.start for t in trajectory.turns] == [len(ids) for ids in said]
    for number, turn in enumerate(trajectory.turns, 1):
        assert (trajectory.versions_T[turn.start : turn.end] == number).all()
        assert (trajectory.logprobs_T[turn.start : turn.end] == np.float32(-0.5 * number)).all()
    assert (trajectory.versions_T[~trajectory.mask_T] == -1).all()
    assert (card.version_min, card.version_max, card.turns) == (1, 3, 3)
    assert trajectory.answer == "42" and card.stop is Stop.ANSWERED
    assert card.tokens == len(tokens)


def test_the_opening_holds_question_preference_and_every_offer(
    stage: Stage, sampler: GroupSampler
) -> None:
    group = sampler.group(3, 1)
    text = stage.chat.decode(opening_ids(stage.chat, group, submit=True))
    assert group.task.question in text and group.preference.instruction in text
    assert all(offer.alias in text for offer in group.draw.offers)


def test_money_and_time_are_the_sums_of_the_ledger(stage: Stage, sampler: GroupSampler) -> None:
    group = sampler.group(1, 1)
    trajectory, card = play(stage, Script(stage.chat, [ask(group), "1"]), group)
    assert trajectory is not None
    assert [e.kind for e in trajectory.ledger] == ["policy", "model", "policy"]
    assert card.charged_nanousd == sum(e.charged_nanousd for e in trajectory.ledger) > 0
    assert card.latency_s == pytest.approx(sum(e.service_s for e in trajectory.ledger))
    own = trajectory.ledger[0]
    assert own.input_tokens == trajectory.turns[0].start
    assert own.charged_nanousd == 200 * (own.input_tokens + own.output_tokens)


def test_the_turn_limit_ends_an_episode_that_never_answers(
    stage: Stage, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    trajectory, card = play(stage, Script(stage.chat, [ask(group)] * 9), group)
    assert trajectory is not None and trajectory.answer is None
    assert card.stop is Stop.TURN_LIMIT and card.turns == stage.limits.max_turns


def test_a_response_at_its_token_limit_ends_the_episode(
    stage: Stage, sampler: GroupSampler
) -> None:
    _, card = play(stage, Script(stage.chat, ["so"], finish="length"), sampler.group(0, 1))
    assert card.stop is Stop.LENGTH and not card.answered


def test_a_fault_of_the_policy_is_an_observation_and_costs_nothing(
    stage: Stage, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    script = Script(
        stage.chat,
        ["<tool_call>\n{]\n</tool_call>", tool_call_text("ask", {"model": "nobody"}), "1"],
    )
    trajectory, card = play(stage, script, group)
    assert trajectory is not None and card.stop is Stop.ANSWERED
    text = stage.chat.decode(trajectory.tokens_T.tolist())
    assert "error: the tool call is not valid JSON" in text
    assert "error: there is no model nobody" in text
    assert [e.error for e in trajectory.ledger if e.kind != "policy"] == ["unknown_model"]
    assert sum(e.charged_nanousd for e in trajectory.ledger if e.kind != "policy") == 0


def submit(reply: object) -> str:
    return tool_call_text("submit", {"reply": reply})


def test_a_submitted_reply_is_the_answer_word_for_word(stage: Stage, sampler: GroupSampler) -> None:
    group = sampler.group(0, 1)
    trajectory, card = play(stage, Script(stage.chat, [ask(group), ask(group), submit(1)]), group)
    assert trajectory is not None and card.stop is Stop.ANSWERED and card.turns == 3
    observation = stage.chat.observation(str(trajectory.answer), 100)
    after_first_turn = trajectory.tokens_T[trajectory.turns[0].end :].tolist()
    assert after_first_turn[: len(observation)] == observation


@pytest.mark.parametrize("reply", [0, 2, -1, "1", 1.5, True, None, [1]])
def test_a_reply_that_is_not_there_cannot_be_submitted(
    stage: Stage, sampler: GroupSampler, reply: object
) -> None:
    group = sampler.group(0, 1)
    trajectory, card = play(stage, Script(stage.chat, [ask(group), submit(reply), "7"]), group)
    assert trajectory is not None and trajectory.answer == "7"
    assert "error: there is no reply" in stage.chat.decode(trajectory.tokens_T.tolist())


def test_submit_is_a_tool_like_any_other_where_it_is_not_offered(
    stage: Stage, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    without = replace(stage, submit=False)
    trajectory, _ = play(without, Script(stage.chat, [ask(group), submit(1), "7"]), group)
    assert trajectory is not None and trajectory.answer == "7"
    assert [e.error for e in trajectory.ledger if e.kind != "policy"] == [None, "unknown_tool"]


class Hangs:
    async def respond(self, view: View) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


def test_an_episode_never_outlives_its_deadline(stage: Stage, sampler: GroupSampler) -> None:
    short = replace(stage, limits=replace(stage.limits, episode_deadline_s=0.05))
    trajectory, card = play(short, Hangs(), sampler.group(0, 1))
    assert trajectory is None and card.stop is Stop.FAILED
    assert card.failure is not None and card.failure.kind is FailureKind.DEADLINE


class Broken:
    async def respond(self, view: View) -> Failure:
        return Failure(FailureKind.ENGINE, "engine", "lost")


def test_a_failure_of_the_engine_is_a_value(stage: Stage, sampler: GroupSampler) -> None:
    trajectory, card = play(stage, Broken(), sampler.group(0, 1))
    assert trajectory is None
    assert card.failure == Failure(FailureKind.ENGINE, "engine", "lost")


@pytest.mark.parametrize("name", ["random", "cheapest", "strongest", "oracle"])
def test_routers_ask_once_and_repeat_the_reply(
    name: str, stage: Stage, sampler: GroupSampler
) -> None:
    group = replace(sampler.group(5, 1), policy=name)
    trajectory, card = asyncio.run(run_episode(stage, group, group.episodes[0]))
    assert trajectory is not None
    assert card.turns == 2 and sum(card.calls.values()) == 1
    assert all(e.charged_nanousd == 0 for e in trajectory.ledger if e.kind == "policy")
    prices = {o.identity: o.output_nanousd_per_mtok for o in group.draw.offers if o.kind == "model"}
    (asked,) = card.calls
    if name == "cheapest":
        assert asked in sorted(prices, key=prices.__getitem__)[:2]
    if name == "strongest" and "nova" in prices:
        assert asked == "nova"
