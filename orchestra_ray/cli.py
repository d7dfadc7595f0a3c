"""The command line: `orchestra train|eval|plan|doctor`.

A user's mistake is one line on stderr and exit code 2, before Ray is imported; any other failure
is one line and exit code 1; Ctrl-C is 130. `--debug` prints the traceback as well. Heavy imports
stand inside the commands, so that help and mistakes are answered at once.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from orchestra_ray.core.errors import ConfigError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code. `argv` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        options = _parse(arguments)
        return options.command(options)
    except ConfigError as error:
        return _fail(BAD_INPUT, str(error), debug)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted", debug)
    except Exception as error:
        hint = "" if debug else "; --debug shows where"
        return _fail(FAILED, f"{type(error).__name__}: {error}{hint}", debug)


def train(options: argparse.Namespace) -> int:
    import orchestra_ray
    from orchestra_ray.config import load

    result = orchestra_ray.train(load(options.config, options.overrides))
    print(f"run folder: {result.folder}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    import orchestra_ray
    from orchestra_ray.config import load

    result = orchestra_ray.evaluate(load(options.config, options.overrides))
    print(f"run folder: {result.folder}")
    return 0


def plan(options: argparse.Namespace) -> int:
    from orchestra_ray.config import load, make_plan, render

    print(render(make_plan(load(options.config, options.overrides))))
    return 0


def doctor(options: argparse.Namespace) -> int:
    from orchestra_ray.doctor import Verdict, findings

    verdicts = set()
    for finding in findings():
        print(f"{finding.subject:<22}{finding.verdict:<6}{finding.detail}", flush=True)
        verdicts.add(finding.verdict)
    return FAILED if Verdict.FAIL in verdicts else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Arguments that are no options are overrides, wherever they stand among the options."""
    options, rest = _parser().parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or not options.takes_overrides]
    if unknown:
        raise ConfigError(f"unknown argument {unknown[0]}; see orchestra {options.name} --help")
    options.overrides = rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="orchestra",
        description="Trains a small language model to orchestrate tools and models.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="command", dest="name")
    _add_configured(
        commands,
        train,
        "train",
        "train a policy, then compare it with the baselines",
        "orchestra train --config configs/quickstart.yaml name=mine training.steps=10",
    )
    _add_configured(
        commands,
        evaluate,
        "eval",
        "compare a policy with the baselines on held-out tasks",
        "orchestra eval --config configs/quickstart.yaml name=mine evaluation.tasks=50",
    )
    _add_configured(
        commands,
        plan,
        "plan",
        "print bundles, memory and volumes of a run, without starting it",
        "orchestra plan --config configs/paper_qwen3_8b.yaml learner.ranks=4",
    )
    _add(commands, doctor, "doctor", "check this machine for a run", "orchestra doctor")
    return parser


def _add_configured(
    commands: "argparse._SubParsersAction[_Parser]",
    command: Command,
    name: str,
    summary: str,
    example: str,
) -> None:
    parser = _add(commands, command, name, summary, example)
    parser.usage = f"orchestra {name} --config FILE [--config FILE ...] [key=value ...] [--debug]"
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        required=True,
        help="YAML file; a later one overrides an earlier one, and key=value overrides both",
    )
    parser.set_defaults(takes_overrides=True)


def _add(
    commands: "argparse._SubParsersAction[_Parser]",
    command: Command,
    name: str,
    summary: str,
    example: str,
) -> _Parser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command, takes_overrides=False)
    return parser


def _fail(code: int, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
