"""Trains the policy of a configuration with TRL's GRPOTrainer, and measures it as `orchestra eval`.

TRL's are the loop, the advantages, the loss and which episodes are trained. This project's are the
tasks, the draws, the episodes and their rewards, handed over by TRL's own hook, `rollout_func`: its
tools are the same for all tasks and have no price. The optimizer, its rates and the settings are
the configuration's; one that asks for what TRL would do otherwise is refused.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from orchestra_ray.config import Config, load
from orchestra_ray.config.enums import Aggregation, ContextPolicy, Surrogate
from orchestra_ray.config.validation import check_run_folder, run_folder
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Trajectory
from orchestra_ray.driver.filters import ScoredGroup
from orchestra_ray.driver.run import World, evaluate, load_world, policy_folder
from orchestra_ray.driver.session import ray_session
from orchestra_ray.driver.worker_group import RunFailed, WorkerGroup
from orchestra_ray.weights.actor import WeightRegistryActor, publish, start_registry
from orchestra_ray.workers.learner.checkpoint import copy_tokenizer
from orchestra_ray.workers.learner.zero import make_optimizer, make_schedule

MICROBATCH = 8  # episodes; TRL counts them, not tokens


class Rollouts:
    """TRL's `rollout_func`: the next groups of the run, played by the model as it now is."""

    def __init__(
        self, world: World, crew: WorkerGroup, registry: WeightRegistryActor, runner: asyncio.Runner
    ):
        self._world, self._worker_group, self._registry, self._runner = (
            world,
            crew,
            registry,
            runner,
        )
        self._version = 0

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> Mapping[str, Any]:
        """`prompts` only say how many episodes are wanted: a task's prompt is made by its draw."""
        groups = self._runner.run(self._play(trainer.model))
        for group in groups:
            failure = group.score.failure or next(iter(group.failed.values()), None)
            if failure is not None:
                raise RunFailed(f"TRL needs whole groups; {failure.where}: {failure.message}")
        rows = [
            {**_row(ray.get(rollout.ref)), "scored": score.reward}
            for group in groups
            for rollout, score in group.pairs()
        ]
        return {key: [row[key] for row in rows] for key in rows[0]}

    async def _play(self, model: PreTrainedModel) -> Sequence[ScoredGroup]:
        config, workers = self._world.config, list(self._worker_group.workers)
        if self._version:
            tensors, weights = model.named_parameters(), config.weights
            size = weights.bucket_mib * 2**20
            publish(self._registry.actor, self._version, tensors, size, weights.deadline_s)
            await self._worker_group.update_weights(self._version)
        self._version += 1
        training, sampler = config.training, self._world.train
        playing = [
            self._worker_group.play_and_score(
                workers[n % len(workers)],
                sampler.next_group(training.group_size, self._version),
            )
            for n in range(training.groups_per_step)
        ]
        groups = await asyncio.gather(*playing)
        await self._worker_group.close_step(self._version)
        return groups


def _row(trajectory: Trajectory) -> dict[str, list[Any]]:
    """An episode as TRL takes it: what comes after the prompt, and which of it was sampled."""
    first = trajectory.turns[0].start
    return {
        "prompt_ids": trajectory.tokens_T[:first].tolist(),
        "completion_ids": trajectory.tokens_T[first:].tolist(),
        "logprobs": trajectory.logprobs_T[first:].tolist(),
        "env_mask": trajectory.mask_T[first:].astype(int).tolist(),
    }


def reward(scored: Sequence[float], **_: Any) -> Sequence[float]:
    return scored


def check(config: Config) -> None:
    """Raises ConfigError where TRL would do something else than the configuration says."""
    loss, learner = config.learner.loss, config.learner
    for key, found, wanted in (
        ("learner.loss.surrogate", loss.surrogate, Surrogate.CLIP),
        ("learner.loss.aggregation", loss.aggregation, Aggregation.TOKEN),
        ("learner.loss.dual_clip", loss.dual_clip, None),
        ("learner.loss.importance_cap", loss.importance_cap, None),
        ("learner.loss.drop_malformed_turns", loss.drop_malformed_turns, False),
        ("learner.loss.kl_coef", loss.kl_coef, 0.0),
        ("learner.minibatches", learner.minibatches, 1),
        ("reward.turn_credit", config.reward.turn_credit, False),
        ("rollout.context", config.rollout.context, ContextPolicy.TRANSCRIPT),
        ("training.max_staleness", config.training.max_staleness, 0),
    ):
        if found != wanted:
            raise ConfigError(f"{key}: {found} is not what TRL's trainer does here; set {wanted}")


def settings(config: Config, folder: Path) -> GRPOConfig:
    learner, loss, training = config.learner, config.learner.loss, config.training
    episodes = training.groups_per_step * training.group_size
    return GRPOConfig(
        output_dir=str(folder),
        seed=config.seed,
        max_steps=training.steps,
        num_generations=training.group_size,
        per_device_train_batch_size=MICROBATCH,
        gradient_accumulation_steps=episodes // MICROBATCH,
        temperature=config.rollout.temperature,
        max_grad_norm=learner.grad_clip,
        epsilon=loss.clip_low,
        epsilon_high=loss.clip_high,
        entropy_coef=loss.entropy_coef,
        loss_type="dapo",  # the mean over the tokens of the batch
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=learner.gradient_checkpointing,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
    )


def train(config: Config, world: World) -> str:
    """The folder of the trained policy."""
    folder = run_folder(config).absolute()
    prompts = Dataset.from_dict({"prompt": ["-"] * config.training.groups_per_step})
    with ray_session(config) as session, asyncio.Runner() as runner:
        start = policy_folder(world)
        registry = start_registry()
        crew = WorkerGroup(
            config, world.catalogue, start, folder, lambda kind, **told: print(kind, told)
        )
        runner.run(crew.start(session.gcs_address, session.namespace, registry))
        try:
            model = AutoModelForCausalLM.from_pretrained(start, dtype=config.model.dtype)
            optimizer = make_optimizer(model, config)
            trainer = GRPOTrainer(
                model=model,
                processing_class=AutoTokenizer.from_pretrained(start),
                reward_funcs=reward,
                args=settings(config, folder),
                train_dataset=prompts,
                rollout_func=Rollouts(world, crew, registry, runner),
                optimizers=(optimizer, make_schedule(optimizer, config)),
            )
            trainer.train()
        finally:
            runner.run(crew.stop())
            ray.kill(registry.actor)
        policy = folder / "checkpoints" / f"step_{config.training.steps}" / "policy"
        model.save_pretrained(policy)
        copy_tokenizer(Path(start), policy)
    return str(policy)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: PYTHONPATH=. benchmarks/peers/.venv/bin/python"
        " benchmarks/peers/trl_train.py --config configs/quickstart.yaml name=trl",
    )
    parser.add_argument("--config", type=Path, action="append", required=True)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    started_s = time.monotonic()
    config = load(options.config, options.overrides)
    check(config)
    check_run_folder(config)
    policy = train(config, load_world(config))
    evaluate(replace(config, model=replace(config.model, path=policy, tiny=None)))
    path = run_folder(config) / "summary.json"
    summary = json.loads(path.read_text()) | {"wall_s": time.monotonic() - started_s}
    path.write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
