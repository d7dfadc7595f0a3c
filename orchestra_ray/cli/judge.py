"""`orchestra judge`: try the judges on answers with labels."""

import argparse

from orchestra_ray.cli.exit_codes import FAILED
from orchestra_ray.cli.parser import Commands, add_command, add_config
from orchestra_ray.core.errors import ConfigError


def add_judge(commands: Commands) -> None:
    parser = add_command(
        commands,
        judge,
        "judge",
        "try the judges on labelled answers; exit code 1 if a verdict differs from its label",
        "orchestra judge cases.jsonl, with lines such as"
        ' {"judge": "number", "reference": "42", "answer": "The answer is 42.", "right": true}',
    )
    parser.usage = "orchestra judge CASES [--config FILE ...] [key=value ...] [--debug]"
    parser.add_argument(
        "cases",
        metavar="CASES",
        help="JSONL: {judge, reference, answer, right, choices?, tests?, question?, private?},"
        " or {judge: reasoning_gym, family, seed, answer, right}",
    )
    add_config(parser, required=False)


def judge(options: argparse.Namespace) -> int:
    from pathlib import Path

    if options.overrides and not options.config:
        raise ConfigError(f"{options.overrides[0]}: there is nothing to override; give --config")
    config = None
    if options.config:
        from orchestra_ray.config import load

        config = load(options.config, options.overrides)
    from orchestra_ray.cli.judge_cases import judge_cases

    return 0 if judge_cases(Path(options.cases), config) else FAILED
