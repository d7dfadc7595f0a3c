"""`orchestra plan`: the placement and memory of a run, without starting it."""

import argparse

from orchestra_ray.cli.parser import Commands, add_configured


def add_plan(commands: Commands) -> None:
    add_configured(
        commands,
        plan,
        "plan",
        "print bundles, memory and volumes of a run, without starting it",
        "orchestra plan --config configs/paper_qwen3_8b.yaml learner.ranks=4",
    )


def plan(options: argparse.Namespace) -> int:
    from orchestra_ray.config import load, make_plan, render

    print(render(make_plan(load(options.config, options.overrides))))
    return 0
