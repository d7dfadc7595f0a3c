"""`orchestra tools list` and `orchestra tools describe`: the catalogue and its descriptions."""

import argparse

from orchestra_ray.cli.exit_codes import FAILED
from orchestra_ray.cli.parser import Commands, add_configured, add_group, count


def add_tools(commands: Commands) -> None:
    nested = add_group(
        commands,
        "tools",
        "list the catalogue, or have its models described",
        "Lists the catalogue, or has its models described by another model.",
        "orchestra tools list --config configs/quickstart.yaml",
    )
    _add_list(nested)
    _add_describe(nested)


def _add_list(commands: Commands) -> None:
    parser = add_configured(
        commands,
        list_tools,
        "tools list",
        "print models and tools with their prices, and what is absent on this machine",
        "orchestra tools list --config configs/quickstart.yaml",
        "[--probe]",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="try each endpoint, by a request for one token, and each MCP server",
    )


def list_tools(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.catalogue import show_catalogue
    from orchestra_ray.config import load

    answered = show_catalogue(load(options.config, options.overrides), options.probe)
    return 0 if answered else FAILED


def _add_describe(commands: Commands) -> None:
    parser = add_configured(
        commands,
        describe,
        "tools describe",
        "try models on tasks, and have another model describe them from what happened",
        "orchestra tools describe --config mine.yaml --model qwen3-32b --by gpt-5 spend.run_usd=2",
        "[--model NAME ...] [--by NAME] [--tasks N] [--out FILE]",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        help="whom to describe; can be given again (default: every model on offer)",
    )
    parser.add_argument(
        "--by", metavar="NAME", help="who writes (default: the dearest model with an endpoint)"
    )
    parser.add_argument(
        "--tasks", metavar="N", type=count, default=10, help="tasks for each (default: 10)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="the new catalogue (default: beside it, as NAME_described)"
    )


def describe(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.describe_models import describe_models
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    left = describe_models(config, options.model, options.by, options.tasks, options.out)
    return FAILED if left else 0
