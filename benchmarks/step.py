"""Where the seconds of a training step go, beside a plain vLLM run on the same model and lengths.

    python benchmarks/step.py --steps 8

Runs the quick start's training without its evaluation, then asks a bare vLLM engine for responses
of the same number and lengths to the same prompts' lengths, with nothing in between.
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
from typing import Any

import orchestra_ray
from orchestra_ray.config import Config, load
from orchestra_ray.driver.run import load_world, policy_folder

CONFIG = "configs/quickstart.yaml"
WARM_UP_STEPS = 2  # of the measured run, left out of the means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    model_path = policy_folder(load_world(config))
    plain_tokens_per_s = asyncio.run(plain_vllm(config, model_path, measured))
    print(table(measured, plain_tokens_per_s))


async def plain_vllm(config: Config, model_path: str, steps: list[dict[str, Any]]) -> float:
    """Response tokens a second of a bare engine: a step's turns at once, of the step's lengths."""
    from orchestra_ray.rollout.engine import Engine

    engine = await Engine.start(config, model_path, seed=0)
    await engine.warm_up()
    episodes = config.training.groups_per_step * config.training.group_size
    turns = round(episodes * fmean(step["turns"] for step in steps))
    per_episode = fmean(step["response_tokens"] for step in steps)
    response = max(1, round(per_episode * episodes / turns))
    prompt = round(fmean(step["episode_tokens"] for step in steps)) - response
    rng, rates = random.Random(0), []
    for repeat in range(4):
        requests = [
            engine.generate(
                request_id=f"{repeat}/{i}",
                prompt_token_ids=[rng.randrange(256) for _ in range(prompt)],
                max_tokens=response,
                temperature=1.0,
                seed=i,
                stop_token_ids=[],
                deadline_s=120,
            )
            for i in range(turns)
        ]
        started_s = time.monotonic()
        await asyncio.gather(*requests)
        rates.append(turns * response / (time.monotonic() - started_s))
    await engine.stop()
    return fmean(rates[1:])


def table(steps: list[dict[str, Any]], plain_tokens_per_s: float) -> str:
    """A Markdown table of means over the measured steps."""

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
