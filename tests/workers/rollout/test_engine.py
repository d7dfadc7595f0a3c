import asyncio
import os
import random
import signal
from typing import Any

import pytest
import ray
import torch
from torch import Tensor
from transformers import DynamicCache, Qwen3ForCausalLM

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.workers.rollout.engine import WHERE, Engine, EngineFailed, EngineRefused
from orchestra_ray.workers.rollout.policies import Completion

from .conftest import DEADLINE_S, VOCABULARY, Served, tiny_model

pytestmark = pytest.mark.cpu
TOLERANCE = 1e-3


def prompt(seed: int, tokens: int = 20) -> list[int]:
    return [random.Random(seed).randrange(1, VOCABULARY) for _ in range(tokens)]


async def complete(engine: Engine, ids: list[int], **changes: Any) -> Completion:
    outcome = await ask(engine, ids, **changes)
    assert isinstance(outcome, Completion), outcome
    return outcome


async def ask(engine: Engine, ids: list[int], **changes: Any) -> Completion | Failure:
    asked = {
        "request_id": f"r{random.getrandbits(64)}",
        "prompt_token_ids": ids,
        "max_tokens": 24,
        "temperature": 1.0,
        "seed": 1,
        "stop_token_ids": [],
        "deadline_s": DEADLINE_S,
    }
    return await engine.generate(**(asked | changes))


@torch.no_grad()
def logits_of(model: Qwen3ForCausalLM, ids: list[int], cache: DynamicCache | None = None) -> Tensor:
    return model(torch.tensor([ids]), past_key_values=cache).logits[0]


def logprobs_of(logits_TV: Tensor, tokens_T: list[int], temperature: float) -> Tensor:
    logprobs_TV = (logits_TV / temperature).log_softmax(-1)
    return logprobs_TV.gather(1, torch.tensor(tokens_T)[:, None])[:, 0]


def assert_sampled_by(
    model: Qwen3ForCausalLM, ids: list[int], said: Completion, temperature: float
) -> None:
    tokens = list(said.token_ids)
    logits = logits_of(model, ids + tokens[:-1])[len(ids) - 1 :]
    expected = logprobs_of(logits, tokens, temperature)
    assert torch.tensor(said.logprobs).sub(expected).abs().max() < TOLERANCE


def greedy(model: Qwen3ForCausalLM, ids: list[int], tokens: int) -> list[int]:
    out = model.generate(
        torch.tensor([ids]), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
    )
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_logprobs_are_those_of_the_distribution_that_was_sampled(
    served: Served, temperature: float
) -> None:
    said = served.run(complete(served.engine, prompt(1), temperature=temperature))
    assert len(said.token_ids) == 24 and said.finish == "length"
    assert_sampled_by(current(served), prompt(1), said, temperature)


def test_at_temperature_zero_the_likeliest_token_is_said(served: Served) -> None:
    said = served.run(complete(served.engine, prompt(2, 300), temperature=0.0))
    assert list(said.token_ids) == greedy(current(served), prompt(2, 300), 24)
    assert_sampled_by(current(served), prompt(2, 300), said, temperature=1.0)


def test_a_response_ends_with_its_stop_token_and_with_no_other(served: Served) -> None:
    free = served.run(complete(served.engine, prompt(3)))
    stop = free.token_ids[10]
    said = served.run(complete(served.engine, prompt(3), stop_token_ids=[stop]))
    assert said.finish == "stop"
    assert list(said.token_ids) == list(free.token_ids[: list(free.token_ids).index(stop) + 1])


def test_a_seed_gives_the_same_tokens_among_any_neighbours(served: Served) -> None:
    async def among(neighbours: int) -> Completion:
        others = [complete(served.engine, prompt(100 + i), seed=i) for i in range(neighbours)]
        said, *_ = await asyncio.gather(complete(served.engine, prompt(4), seed=5), *others)
        return said

    alone, crowded = served.run(among(0)), served.run(among(40))
    assert alone.token_ids == crowded.token_ids
    other = served.run(complete(served.engine, prompt(4), seed=6))
    assert alone.token_ids != other.token_ids


def test_more_prompt_tokens_than_a_step_takes_are_served(served: Served) -> None:
    async def crowd() -> list[Completion]:
        asked = [complete(served.engine, prompt(i, 400), seed=i) for i in range(40)]
        return await asyncio.gather(*asked)

    said = served.run(crowd())
    assert [len(one.token_ids) for one in said] == [24] * 40
    assert_sampled_by(current(served), prompt(39, 400), said[39], temperature=1.0)


def test_an_update_is_seen_by_every_request_in_flight(served: Served) -> None:
    engine, old_version = served.engine, served.engine.version
    old, new = current(served), tiny_model(seed=old_version + 1)
    served.publish(old_version + 1, new.named_parameters())

    async def update_among(requests: int) -> tuple[list[Completion], dict[str, float]]:
        asked = [
            asyncio.create_task(complete(engine, prompt(i), max_tokens=300, seed=i))
            for i in range(requests)
        ]
        await complete(engine, prompt(99), max_tokens=20)
        seconds = await engine.update_weights(old_version + 1)
        assert not any(task.done() for task in asked)
        return await asyncio.gather(*asked), dict(seconds)

    said, seconds = served.run(update_among(24))
    assert set(seconds) == {"pause_s", "load_s", "resume_s"}
    assert engine.version == old_version + 1
    for i, one in enumerate(said):
        assert len(one.token_ids) == len(one.logprobs) == len(one.versions) == 300
        assert list(one.versions) == sorted(one.versions)
        assert set(one.versions) == {old_version, old_version + 1}
        assert_sampled_by_both(old, new, prompt(i), one, one.versions.index(old_version + 1))


def assert_sampled_by_both(
    old: Qwen3ForCausalLM, new: Qwen3ForCausalLM, ids: list[int], said: Completion, switch: int
) -> None:
    """Tokens before `switch` by the old weights; the others by the new ones over the old KV."""
    tokens, cache = list(said.token_ids), DynamicCache()
    before = logits_of(old, ids + tokens[: switch - 1], cache)[len(ids) - 1 :]
    after = logits_of(new, tokens[switch - 1 : -1], cache)
    expected = logprobs_of(torch.cat([before, after]), tokens, 1.0)
    assert torch.tensor(said.logprobs).sub(expected).abs().max() < TOLERANCE


def test_new_requests_never_meet_what_older_weights_computed(served: Served) -> None:
    ids, version = prompt(7, 400), served.engine.version + 1
    served.run(complete(served.engine, ids))
    new = tiny_model(seed=version)
    served.publish(version, new.named_parameters())
    served.run(served.engine.update_weights(version))
    said = served.run(complete(served.engine, ids, temperature=0.0))
    assert list(said.token_ids) == greedy(new, ids, 24)
    assert list(said.versions) == [version] * 24
    assert_sampled_by(new, ids, said, temperature=1.0)


def test_a_corrupt_bucket_is_refused_and_the_old_weights_serve_on(served: Served) -> None:
    engine, old, version = served.engine, current(served), served.engine.version
    manifest = served.publish(version + 1, tiny_model(seed=version + 1).named_parameters())
    _, refs = ray.get(served.registry.actor.get.remote(version + 1))
    rotten = ray.get(refs[1]).copy()
    rotten[17] ^= 1
    refs = [refs[0], ray.put(rotten), *refs[2:]]
    ray.get(served.registry.actor.publish.remote(manifest, refs))

    async def update_among(requests: int) -> list[Completion]:
        asked = [complete(engine, prompt(i), max_tokens=100, seed=i) for i in range(requests)]
        going = asyncio.gather(*asked)
        line = (
            rf"^.*version {version + 1}: bucket 1 of .* is corrupt .*; "
            rf"version {version} stays in use$"
        )
        with pytest.raises(EngineRefused, match=line):
            await engine.update_weights(version + 1)
        return await going

    said = served.run(update_among(16))
    assert engine.failure is None and engine.version == version
    for i, one in enumerate(said):
        assert list(one.versions) == [version] * 100
        assert_sampled_by(old, prompt(i), one, temperature=1.0)


def test_an_unpublished_version_is_refused(served: Served) -> None:
    version = served.engine.version
    with pytest.raises(
        EngineRefused, match=f"version 999 is not published.*{version} stays in use"
    ):
        served.run(served.engine.update_weights(999))
    assert served.engine.failure is None
    assert_sampled_by(
        current(served), prompt(8), served.run(complete(served.engine, prompt(8))), temperature=1.0
    )


def test_a_request_past_its_deadline_ends_in_a_failure_and_leaves_the_engine(
    served: Served,
) -> None:
    async def late() -> tuple[Failure | Completion, bool, Failure | Completion]:
        outcome = await ask(served.engine, prompt(9), max_tokens=500, deadline_s=0.1)
        # vLLM empties its prefix cache only while no request holds a part of it.
        return (
            outcome,
            await served.engine._llm.reset_prefix_cache(),
            await ask(served.engine, prompt(9)),
        )

    outcome, engine_is_empty, following = served.run(late())
    assert isinstance(outcome, Failure) and outcome.kind is FailureKind.DEADLINE
    assert "0.1 s" in outcome.message
    assert engine_is_empty
    assert isinstance(following, Completion)


@pytest.mark.parametrize(
    "asked",
    [{"ids": prompt(1, 2000)}, {"ids": []}, {"ids": [VOCABULARY + 5]}, {"max_tokens": 0}],
    ids=["prompt too long", "no prompt", "no such token", "nothing to say"],
)
def test_a_request_that_cannot_be_served_is_a_failure_in_one_line(
    served: Served, asked: dict[str, Any]
) -> None:
    outcome = served.run(ask(served.engine, **({"ids": prompt(1)} | asked)))
    assert isinstance(outcome, Failure) and outcome.kind is FailureKind.ENGINE
    assert "\n" not in outcome.message
    assert isinstance(served.run(ask(served.engine, prompt(1))), Completion)


@pytest.mark.parametrize("changed", [None, torch.zeros(3, 3)], ids=["missing", "misshapen"])
def test_weights_of_another_model_are_refused(served: Served, changed: Tensor | None) -> None:
    version = served.engine.version
    named = dict(tiny_model(seed=version + 1).named_parameters())
    name = "model.layers.1.self_attn.k_proj.weight"
    named |= {name: changed}
    served.publish(version + 1, [(n, t) for n, t in named.items() if t is not None])
    with pytest.raises(EngineRefused, match=rf"in 1 tensors: {name} .*{version} stays in use"):
        served.run(served.engine.update_weights(version + 1))
    said = served.run(complete(served.engine, prompt(1)))
    assert_sampled_by(current(served), prompt(1), said, temperature=1.0)


def test_an_engine_that_does_not_answer_is_given_up(expendable: Served) -> None:
    engine = expendable.engine

    async def update_among(requests: int) -> list[Completion | Failure]:
        asked = [ask(engine, prompt(i), max_tokens=500, seed=i) for i in range(requests)]
        going = asyncio.gather(*asked)
        await ask(engine, prompt(99), max_tokens=5)
        os.kill(process_id(engine), signal.SIGSTOP)
        with pytest.raises(EngineFailed, match="^pause: no answer within 5 s$") as caught:
            await engine.update_weights(1)
        assert not isinstance(caught.value, EngineRefused)
        return await going

    try:
        outcomes = expendable.run(update_among(16))
    finally:
        os.kill(process_id(engine), signal.SIGCONT)
    assert outcomes == [engine.failure] * 16
    assert engine.failure == Failure(FailureKind.ENGINE, WHERE, "pause: no answer within 5 s")
    assert expendable.run(ask(engine, prompt(1))) == engine.failure
    with pytest.raises(EngineFailed, match="^pause: no answer"):
        expendable.run(engine.update_weights(1))


def test_the_death_of_the_engine_is_a_failure_of_every_request(expendable: Served) -> None:
    engine = expendable.engine

    async def killed_among(requests: int) -> list[Completion | Failure]:
        asked = [ask(engine, prompt(i), max_tokens=500, seed=i) for i in range(requests)]
        going = asyncio.gather(*asked)
        await ask(engine, prompt(99), max_tokens=5)
        os.kill(process_id(engine), signal.SIGKILL)
        return await going

    outcomes = expendable.run(killed_among(16))
    assert outcomes == [Failure(FailureKind.ENGINE, WHERE, "the engine's process is gone")] * 16
    assert engine.failure == expendable.run(ask(engine, prompt(1))) == outcomes[0]


def process_id(engine: Engine) -> int:
    manager = engine._llm.engine_core.resources.engine_manager
    return manager.processes[0].pid


def current(served: Served) -> Qwen3ForCausalLM:
    """The model whose weights are served: in this module, version v is seed v."""
    return tiny_model(seed=served.engine.version)
