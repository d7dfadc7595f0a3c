"""From the engine to the learner's tensors: the ids that vLLM sampled are the ids that train.

Episodes of several turns are run on a real engine; a parser that reads a call in every response
keeps the episodes of an untrained policy going.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from orchestra_ray.config import Config
from orchestra_ray.config.enums import ContextPolicy
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import GroupSpec, Trajectory
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.workers.learner.batch import Sample, collate
from orchestra_ray.workers.learner.logprobs import TokenLogprobs
from orchestra_ray.workers.learner.parts import part_of
from orchestra_ray.workers.rollout.actor import ModelPolicy
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import context_of
from orchestra_ray.workers.rollout.engine import Engine
from orchestra_ray.workers.rollout.episode import EpisodeContext, run_episode
from orchestra_ray.workers.rollout.parsing import AskedCall, ParsedTurn
from orchestra_ray.workers.rollout.policies import Completion, PolicyInput

from .acting import Direct

pytestmark = [pytest.mark.cpu, pytest.mark.timeout(300)]
TURNS, EPISODES, TOLERANCE = 3, 8, 1e-3


class Recorder:
    """The model's policy, recording each prompt with its completion."""

    def __init__(self, policy: ModelPolicy):
        self._policy = policy
        self.said: dict[str, list[tuple[list[int], Completion]]] = {}

    async def respond(self, policy_input: PolicyInput) -> Completion | Failure:
        prompt_ids = list(policy_input.prompt_ids)
        completion = await self._policy.respond(policy_input)
        assert isinstance(completion, Completion), completion
        episode_id = policy_input.request_id.rpartition("/")[0]
        self.said.setdefault(episode_id, []).append((prompt_ids, completion))
        return replace(completion, finish="stop")


@dataclass(frozen=True)
class Recorded:
    trajectories: Sequence[Trajectory]
    recorder: Recorder


@pytest.fixture(scope="module")
def recorded_in(
    quickstart: Config,
    catalogue: Catalogue,
    chat: Chat,
    policy_folder: Path,
    sampler: GroupSampler,
    local_spend: Callable[[], Any],
) -> Mapping[ContextPolicy, Recorded]:
    group = sampler.group(0, EPISODES)
    limits = replace(quickstart.rollout, max_turns=TURNS, max_response_tokens=32)
    config = replace(quickstart, rollout=limits)

    async def main() -> Mapping[ContextPolicy, Recorded]:
        engine = await Engine.start(config, str(policy_folder), seed=0)
        try:
            return {context: await run_engine(engine, context) for context in ContextPolicy}
        finally:
            await engine.stop()

    async def run_engine(engine: Engine, context: ContextPolicy) -> Recorded:
        recorder = Recorder(ModelPolicy(engine, config, chat.stop_ids))
        episode_context = EpisodeContext(
            chat,
            context_of(chat, replace(limits, context=context), submit=False),
            lambda chat, ids: always_a_call(group),
            {"model": recorder},
            Direct(catalogue, local_spend()),
            config.model,
            limits,
            catalogue.price_sheet,
        )
        ended = await asyncio.gather(
            *(run_episode(episode_context, group, e) for e in group.episodes)
        )
        return Recorded([trajectory for trajectory, _ in ended if trajectory is not None], recorder)

    return asyncio.run(main())


@pytest.fixture(params=ContextPolicy)
def recorded(
    request: pytest.FixtureRequest, recorded_in: Mapping[ContextPolicy, Recorded]
) -> tuple[ContextPolicy, Recorded]:
    return request.param, recorded_in[request.param]


def always_a_call(group: GroupSpec) -> ParsedTurn:
    model = next(option.alias for option in group.toolset.options if option.kind == "model")
    return ParsedTurn((AskedCall("ask", {"model": model}),), None)


def test_a_trajectory_is_what_the_engine_saw_and_said(
    recorded: tuple[ContextPolicy, Recorded],
) -> None:
    context, run = recorded
    assert len(run.trajectories) == EPISODES
    for trajectory in run.trajectories:
        assert len(trajectory.starts) == (TURNS if context is ContextPolicy.REBUILD else 1)
        said = run.recorder.said[trajectory.episode_id]
        assert len(said) == len(trajectory.turns) == TURNS
        for turn, (prompt_ids, completion) in zip(trajectory.turns, said, strict=True):
            start = max(start for start in trajectory.starts if start < turn.start)
            assert trajectory.tokens_T[start : turn.start].tolist() == prompt_ids
            spoken = slice(turn.start, turn.end)
            assert trajectory.tokens_T[spoken].tolist() == list(completion.token_ids)
            assert trajectory.mask_T[spoken].all()
            assert torch.tensor(trajectory.logprobs_T[spoken]).equal(
                torch.tensor(list(completion.logprobs))
            )
        assert trajectory.mask_T.sum() == sum(len(c.token_ids) for _, c in said)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_learner_trains_just_these_tokens(
    recorded: tuple[ContextPolicy, Recorded], policy_folder: Path, packed: bool
) -> None:
    _, run = recorded
    samples = [
        Sample(part_of(trajectory, part), 1.0)
        for trajectory in run.trajectories
        for part in range(len(trajectory.starts))
    ]
    batch = collate(samples, packed=packed, device=torch.device("cpu"))
    trained = batch.labels[batch.labels != -100].tolist()
    assert trained == [
        token
        for t in run.trajectories
        for _, completion in run.recorder.said[t.episode_id]
        for token in completion.token_ids
    ]
    model = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float32)
    with torch.no_grad():
        logp_B_T = batch.rows(
            TokenLogprobs(model)(
                batch.input_ids, batch.attention_mask, batch.position_ids, batch.labels, 1.0
            )
        )
    gap_B_T = (logp_B_T - batch.behaviour_logp_B_T).abs()
    assert gap_B_T[batch.mask_B_T].max() < TOLERANCE
