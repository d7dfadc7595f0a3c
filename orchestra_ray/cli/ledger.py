"""`orchestra ledger`: the spend of a run, summed by model, tool, step, episode or error."""

import argparse

from orchestra_ray.cli.parser import Commands, add_command, count


def add_ledger(commands: Commands) -> None:
    parser = add_command(
        commands,
        ledger,
        "ledger",
        "print what a run spent",
        "orchestra ledger runs/quickstart --by step",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--by",
        choices=["model", "tool", "step", "episode", "error"],
        default="model",
        help="what a line stands for (default: model)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=count,
        default=40,
        help="at most so many lines; the cheapest become one (default: 40)",
    )


def ledger(options: argparse.Namespace) -> int:
    from pathlib import Path

    from orchestra_ray.cli.ledger_table import show_ledger
    from orchestra_ray.spend.summary import By

    show_ledger(Path(options.run), By(options.by), options.top)
    return 0
