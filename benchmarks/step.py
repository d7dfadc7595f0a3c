"""Times the phases of a training step, and a plain vLLM run on the same model and lengths.

    python benchmarks/step.py --steps 8

Runs the quick start's training without its evaluation, then the same number of responses of the
same lengths on a bare vLLM engine, without tools or scoring.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from orchestra_ray.config import Config, load
from orchestra_ray.core.faults import Failure

if TYPE_CHECKING:
    from orchestra_ray.workers.rollout.engine import Engine

CONFIG = "configs/quickstart.yaml"
WARM_UP_STEPS = 2  # of the measured run, not in the means
REPEATS = 3  # of a step on the plain engine, after one for warm-up
OBSERVATION = 16  # tokens between two turns


def main() -> None:
    # Imported here, since vLLM's processes import this module and fail on numba's LLVM wrappers.
    import orchestra_ray
    from orchestra_ray.driver.run import load_inputs, policy_folder

    parser = argparse.ArgumentParser(description="Times the phases of a training step.")
    parser.add_argument("--steps", type=int, default=8, help="steps to measure (default: 8)")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        config = load(
            [CONFIG],
            [
                "name=bench",
                f"runs_dir={folder}",
                f"training.steps={steps + WARM_UP_STEPS}",
                "evaluation.tasks=0",
                "tracking.wandb=disabled",
            ],
        )
        result = orchestra_ray.train(config)
        lines = (result.folder / "metrics.jsonl").read_text().splitlines()
        measured = [json.loads(line) for line in lines][WARM_UP_STEPS:]
    model_path = policy_folder(load_inputs(config))
    plain_tokens_per_s = asyncio.run(plain_vllm(config, model_path, measured))
    print(table(measured, plain_tokens_per_s))


async def plain_vllm(config: Config, model_path: str, steps: list[dict[str, Any]]) -> float:
    """Returns the response tokens a second of a bare engine on a step's load.

    As in a step, a group's episodes share the first prompt, and each turn's prompt extends the last
    one by its response and an observation, so that the prefix cache hits equally often.
    """
    from orchestra_ray.workers.rollout.engine import Engine

    engine = await Engine.start(config, model_path, seed=0)
    await engine.warm_up()
    rates = [await plain_step(engine, config, steps, repeat) for repeat in range(REPEATS + 1)]
    await engine.stop()
    return fmean(rates[1:])


async def plain_step(
    engine: "Engine", config: Config, steps: list[dict[str, Any]], repeat: int
) -> float:
    training, rng = config.training, random.Random(repeat)
    turns = max(1, round(fmean(step["turns"] for step in steps)))
    response = round(fmean(step["response_tokens"] for step in steps) / turns)
    opening = round(fmean(step["episode_tokens"] for step in steps)) - turns * response
    opening -= (turns - 1) * OBSERVATION

    def noise(tokens: int) -> list[int]:
        return [rng.randrange(256) for _ in range(tokens)]

    groups = [noise(opening) for _ in range(training.groups_per_step)]
    prompts = [list(prompt) for prompt in groups for _ in range(training.group_size)]

    async def episode(number: int, ids: list[int]) -> int:
        generated = 0
        for turn in range(turns):
            completion = await engine.generate(
                request_id=f"{repeat}/{number}/{turn}",
                prompt_token_ids=ids,
                max_tokens=response,
                temperature=1.0,
                seed=number,
                stop_token_ids=[],
                deadline_s=120,
            )
            if isinstance(completion, Failure):
                raise SystemExit(f"plain vLLM: {completion.message}")
            generated += len(completion.token_ids)
            ids = [*ids, *completion.token_ids, *noise(OBSERVATION)]
        return generated

    started_s = time.monotonic()
    generated = await asyncio.gather(*(episode(n, ids) for n, ids in enumerate(prompts)))
    return sum(generated) / (time.monotonic() - started_s)


def table(steps: list[dict[str, Any]], plain_tokens_per_s: float) -> str:
    """Returns a Markdown table of means over the measured steps."""

    def mean(key: str) -> float:
        return fmean(step[key] for step in steps if key in step)

    episodes = fmean(step["episodes"] for step in steps)
    rows = [
        ("generate (with tools and scoring), s", f"{mean('seconds/generate'):.2f}"),
        ("of an episode: in tools, s", f"{mean('seconds/tools'):.3f}"),
        ("of a group: scoring, s", f"{mean('seconds/score'):.3f}"),
        ("train, s", f"{mean('seconds/train'):.2f}"),
        ("publish and load weights, s", f"{mean('seconds/publish'):.2f}"),
        ("step, s", f"{mean('seconds/step'):.2f}"),
        ("response tokens/s while generating", f"{mean('tokens_per_s'):,.0f}"),
        ("response tokens/s of plain vLLM", f"{plain_tokens_per_s:,.0f}"),
        ("trajectories/s while generating", f"{mean('trajectories_per_s'):.1f}"),
        ("driver CPU a trajectory, ms", f"{1e3 * mean('driver_cpu_s') / episodes:.2f}"),
        ("peak memory: driver, MiB", f"{mean('peak_mib/driver'):,.0f}"),
        ("peak memory: rollout worker, MiB", f"{mean('peak_mib/rollout'):,.0f}"),
        ("peak memory: its engine, MiB", f"{mean('peak_mib/engine'):,.0f}"),
        ("peak memory: learner rank, MiB", f"{mean('peak_rss_bytes') / 2**20:,.0f}"),
        ("peak memory: tool executor, MiB", f"{mean('peak_mib/tools'):,.0f}"),
        ("peak memory: scorer, MiB", f"{mean('peak_mib/scorer'):,.0f}"),
    ]
    head = f"| {len(steps)} steps of {episodes:.0f} episodes, {os.cpu_count()} cores | mean |"
    return "\n".join([head, "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)])


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    main()
