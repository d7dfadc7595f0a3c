"""`orchestra train` and `orchestra eval`: start a run, or predict its spend with --dry-run."""

import argparse
from typing import TYPE_CHECKING

from orchestra_ray.cli.parser import Command, Commands, Parser, add_configured
from orchestra_ray.core.errors import ConfigError

if TYPE_CHECKING:
    from orchestra_ray.config import Config


def add_train(commands: Commands) -> None:
    _add_run(
        commands,
        train,
        "train",
        "train a policy, then compare it with the baselines",
        "orchestra train --config configs/quickstart.yaml name=mine training.steps=10",
    )


def add_eval(commands: Commands) -> None:
    parser = _add_run(
        commands,
        evaluate,
        "eval",
        "compare a policy with the baselines on held-out tasks",
        "orchestra eval --config configs/quickstart.yaml name=mine evaluation.tasks=50",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the evaluation of this name"
    )


def _add_run(commands: Commands, command: Command, name: str, summary: str, example: str) -> Parser:
    parser = add_configured(commands, command, name, summary, example, "[--dry-run [--calls N]]")
    parser.add_argument(
        "--dry-run", action="store_true", help="predict what the run may spend; start nothing"
    )
    parser.add_argument(
        "--calls",
        metavar="N",
        type=float,
        help="of a prediction: calls of an expected episode (default: by rollout.max_turns)",
    )
    return parser


def train(options: argparse.Namespace) -> int:
    import orchestra_ray
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    if not _dry_run(options, config, training=True):
        print(f"run folder: {orchestra_ray.train(config).folder}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    import orchestra_ray
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    if not _dry_run(options, config, training=False):
        print(f"run folder: {orchestra_ray.evaluate(config, options.resume).folder}")
    return 0


def _dry_run(options: argparse.Namespace, config: "Config", training: bool) -> bool:
    """Prints the forecast if --dry-run is set; returns whether it is."""
    if options.dry_run:
        from orchestra_ray.cli.dry_run import show_forecast

        show_forecast(config, training, options.calls)
    elif options.calls is not None:
        raise ConfigError("--calls is for a prediction; add --dry-run or leave it out")
    return bool(options.dry_run)
