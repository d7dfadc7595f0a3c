"""The command line: `orchestra train|eval|report|plan|ledger|judge|tools|preferences|doctor`.

A user's mistake is one line on stderr and exit code 2, before Ray is imported; any other failure
is one line and exit code 1; Ctrl-C is 130, SIGTERM 143. `--debug` adds the traceback; the line
mentions it if the error is unexpected. All output is free of secrets. Heavy imports stand inside
the commands' functions, so that help and mistakes are fast.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence

from orchestra_ray.cli.doctor import add_doctor
from orchestra_ray.cli.exit_codes import BAD_INPUT, FAILED, INTERRUPTED, TERMINATED
from orchestra_ray.cli.judge import add_judge
from orchestra_ray.cli.ledger import add_ledger
from orchestra_ray.cli.parser import Parser
from orchestra_ray.cli.plan import add_plan
from orchestra_ray.cli.preferences import add_preferences
from orchestra_ray.cli.report import add_report
from orchestra_ray.cli.run import add_eval, add_train
from orchestra_ray.cli.signals import interrupted_by_sigterm
from orchestra_ray.cli.tools import add_tools
from orchestra_ray.core.errors import ConfigError, ReportedError
from orchestra_ray.tracking.redact import Redactor, hidden_output


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code. `argv` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with hidden_output(Redactor.of()), interrupted_by_sigterm() as signals:
        code = _run(arguments)
        return TERMINATED if code == INTERRUPTED and signals else code


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        options = parse(arguments)
        return options.command(options)
    except ConfigError as error:
        return _fail(BAD_INPUT, str(error), debug)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted", debug)
    except Exception as error:
        hint = "" if debug or isinstance(error, ReportedError) else "; --debug shows where"
        return _fail(FAILED, f"{type(error).__name__}: {error}{hint}", debug)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Returns the options. Arguments without a dash are overrides, anywhere among the options."""
    options, rest = _parser().parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or not options.takes_overrides]
    if unknown:
        bare = unknown[0].lstrip("-")
        remedy = f"see orchestra {options.name} --help"
        if options.takes_overrides and "=" in bare:
            remedy = f"an override has no dashes: {bare}"
        raise ConfigError(f"unknown argument {unknown[0]}; {remedy}")
    options.overrides = rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="orchestra",
        description="Trains a small language model to orchestrate tools and models.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    add_train(commands)
    add_eval(commands)
    add_report(commands)
    add_plan(commands)
    add_ledger(commands)
    add_judge(commands)
    add_tools(commands)
    add_preferences(commands)
    add_doctor(commands)
    return parser


def _fail(code: int, message: str, debug: bool) -> int:
    if debug:
        # In one piece: the redactor finds a secret of several lines only if it sees it whole.
        print(traceback.format_exc(), end="", file=sys.stderr)
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
