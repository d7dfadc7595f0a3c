"""Trains a configuration's policy with TRL's GRPOTrainer, and evaluates it like `orchestra eval`.

TRL supplies the loop, the advantages, the loss and the choice of trained episodes. This project
supplies the tasks, the toolsets, the episodes and their rewards through TRL's hook `rollout_func`,
since TRL's own tools are the same for all tasks and have no price. The optimizer, its rates and the
settings are the configuration's; a setting that TRL implements differently is refused.
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
from orchestra_ray.config.derived import run_folder
from orchestra_ray.config.enums import Aggregation, ContextPolicy, Surrogate
from orchestra_ray.config.start_checks import check_run_folder
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Trajectory
from orchestra_ray.driver.actor_calls import RunFailed
from orchestra_ray.driver.filters import ScoredGroup
from orchestra_ray.driver.ray_session import ray_session
from orchestra_ray.driver.run import RunInputs, evaluate, load_inputs, policy_folder
from orchestra_ray.driver.worker_group import WorkerGroup
from orchestra_ray.weights.actor import RegistryHandle, publish, start_registry
from orchestra_ray.workers.learner.checkpoint import copy_tokenizer
from orchestra_ray.workers.learner.zero import make_optimizer, make_schedule

MICROBATCH = 8  # episodes; TRL counts them, not tokens


class Rollouts:
    """TRL's `rollout_func`: runs the next groups of episodes with the current weights."""

    def __init__(
        self,
        inputs: RunInputs,
        worker_group: WorkerGroup,
        registry: RegistryHandle,
        runner: asyncio.Runner,
    ):
        self._inputs, self._worker_group, self._registry, self._runner = (
            inputs,
            worker_group,
            registry,
            runner,
        )
        self._version = 0

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> Mapping[str, Any]:
        """Returns episodes. Only the number of `prompts` matters; the tasks are this project's."""
        groups = self._runner.run(self._run_groups(trainer.model))
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

    async def _run_groups(self, model: PreTrainedModel) -> Sequence[ScoredGroup]:
        config, workers = self._inputs.config, list(self._worker_group.workers)
        if self._version:
            tensors, weights = model.named_parameters(), config.weights
            size = weights.bucket_mib * 2**20
            publish(self._registry.actor, self._version, tensors, size, weights.deadline_s)
            await self._worker_group.update_weights(self._version)
        self._version += 1
        training, sampler = config.training, self._inputs.train
        running = [
            self._worker_group.run_and_score(
                workers[n % len(workers)],
                sampler.next_group(training.group_size, self._version),
            )
            for n in range(training.groups_per_step)
        ]
        groups = await asyncio.gather(*running)
        await self._worker_group.close_step(self._version)
        return groups


def _row(trajectory: Trajectory) -> dict[str, list[Any]]:
    """Returns an episode in TRL's format, with a mask of the sampled tokens."""
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
    """Raises ConfigError if TRL would deviate from the configuration."""
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


def train(config: Config, inputs: RunInputs) -> str:
    """Trains, and returns the folder of the policy."""
    folder = run_folder(config).absolute()
    prompts = Dataset.from_dict({"prompt": ["-"] * config.training.groups_per_step})
    with ray_session(config) as session, asyncio.Runner() as runner:
        start = policy_folder(inputs)
        registry = start_registry()
        worker_group = WorkerGroup(
            config, inputs.catalogue, start, folder, lambda kind, **told: print(kind, told)
        )
        runner.run(worker_group.start(session.gcs_address, session.namespace, registry))
        try:
            model = AutoModelForCausalLM.from_pretrained(start, dtype=config.model.dtype)
            optimizer = make_optimizer(model, config)
            trainer = GRPOTrainer(
                model=model,
                processing_class=AutoTokenizer.from_pretrained(start),
                reward_funcs=reward,
                args=settings(config, folder),
                train_dataset=prompts,
                rollout_func=Rollouts(inputs, worker_group, registry, runner),
                optimizers=(optimizer, make_schedule(optimizer, config)),
            )
            trainer.train()
        finally:
            runner.run(worker_group.stop())
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
    policy = train(config, load_inputs(config))
    evaluate(replace(config, model=replace(config.model, path=policy, tiny=None)))
    path = run_folder(config) / "summary.json"
    summary = json.loads(path.read_text()) | {"wall_s": time.monotonic() - started_s}
    path.write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
