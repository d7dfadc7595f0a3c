"""The command line: `orchestra train|eval|report|plan|ledger|judge|tools|preferences|doctor`.

A user's mistake is one line on stderr and exit code 2, before Ray is imported; any other failure
is one line and exit code 1; Ctrl-C is 130, SIGTERM 143. `--debug` prints the traceback as well, and
is offered if that tells more than the line. Whatever is printed is free of secrets. Heavy imports
stand inside the commands, so that help and mistakes are answered at once.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from orchestra_ray.cli.signals import interrupted_by_sigterm
from orchestra_ray.core.errors import ConfigError, ReportedError
from orchestra_ray.tracking.redact import Redactor, hidden_output

if TYPE_CHECKING:
    from orchestra_ray.config import Config

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143
Command = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code. `argv` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with hidden_output(Redactor.of()), interrupted_by_sigterm() as signals:
        code = _run(arguments)
        return TERMINATED if code == INTERRUPTED and signals else code


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    try:
        options = _parse(arguments)
        return options.command(options)
    except ConfigError as error:
        return _fail(BAD_INPUT, str(error), debug)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted", debug)
    except Exception as error:
        hint = "" if debug or isinstance(error, ReportedError) else "; --debug shows where"
        return _fail(FAILED, f"{type(error).__name__}: {error}{hint}", debug)


def train(options: argparse.Namespace) -> int:
    import orchestra_ray
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    if not _is_dry(options, config, training=True):
        print(f"run folder: {orchestra_ray.train(config).folder}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    import orchestra_ray
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    if not _is_dry(options, config, training=False):
        print(f"run folder: {orchestra_ray.evaluate(config, options.resume).folder}")
    return 0


def plan(options: argparse.Namespace) -> int:
    from orchestra_ray.config import load, make_plan, render

    print(render(make_plan(load(options.config, options.overrides))))
    return 0


def ledger(options: argparse.Namespace) -> int:
    from pathlib import Path

    from orchestra_ray.cli.ledger import show_ledger
    from orchestra_ray.spend.summary import By

    show_ledger(Path(options.run), By(options.by), options.top)
    return 0


def judge(options: argparse.Namespace) -> int:
    from pathlib import Path

    if options.overrides and not options.config:
        raise ConfigError(f"{options.overrides[0]}: there is nothing to override; give --config")
    config = None
    if options.config:
        from orchestra_ray.config import load

        config = load(options.config, options.overrides)
    from orchestra_ray.cli.judge import judge_cases

    return 0 if judge_cases(Path(options.cases), config) else FAILED


def report(options: argparse.Namespace) -> int:
    from pathlib import Path

    from orchestra_ray.cli.report import make_report

    out = Path(options.out) if options.out else None
    print(f"report: {make_report([Path(run) for run in options.runs], out)}")
    return 0


def tools_list(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.catalogue import show_catalogue
    from orchestra_ray.config import load

    answered = show_catalogue(load(options.config, options.overrides), options.probe)
    return 0 if answered else FAILED


def tools_describe(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.describe import describe_models
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    left = describe_models(config, options.model, options.by, options.tasks, options.out)
    return FAILED if left else 0


def preferences_make(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.preferences import make_preferences
    from orchestra_ray.config import load

    config = load(options.config, options.overrides)
    make_preferences(config, options.out, options.count, options.by, options.validator)
    return 0


def doctor(options: argparse.Namespace) -> int:
    from orchestra_ray.cli.doctor import Verdict, findings

    config = None
    if options.config:
        from orchestra_ray.config import load

        config = load(options.config, options.overrides)
    elif options.overrides:
        raise ConfigError(
            f"{options.overrides[0]}: there is no configuration to override; give --config"
        )
    verdicts = set()
    for finding in findings(config):
        print(f"{finding.subject:<22}{finding.verdict:<6}{finding.detail}", flush=True)
        verdicts.add(finding.verdict)
    return FAILED if Verdict.FAIL in verdicts else 0


def _is_dry(options: argparse.Namespace, config: "Config", training: bool) -> bool:
    """Whether the run is only to be predicted, which this does."""
    if options.dry_run:
        from orchestra_ray.cli.dry_run import show_forecast

        show_forecast(config, training, options.calls)
    elif options.calls is not None:
        raise ConfigError("--calls is for a prediction; add --dry-run or leave it out")
    return bool(options.dry_run)


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Arguments that are no options are overrides, wherever they stand among the options."""
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
    parser = _Parser(
        prog="orchestra",
        description="Trains a small language model to orchestrate tools and models.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_run(
        commands,
        train,
        "train",
        "train a policy, then compare it with the baselines",
        "orchestra train --config configs/quickstart.yaml name=mine training.steps=10",
    )
    measured = _add_run(
        commands,
        evaluate,
        "eval",
        "compare a policy with the baselines on held-out tasks",
        "orchestra eval --config configs/quickstart.yaml name=mine evaluation.tasks=50",
    )
    measured.add_argument(
        "--resume", action="store_true", help="go on with the evaluation of this name"
    )
    _add_report(commands)
    _add_configured(
        commands,
        plan,
        "plan",
        "print bundles, memory and volumes of a run, without starting it",
        "orchestra plan --config configs/paper_qwen3_8b.yaml learner.ranks=4",
    )
    _add_ledger(commands)
    _add_judge(commands)
    _add_tools(commands)
    _add_preferences(commands)
    example = "orchestra doctor --config configs/quickstart.yaml"
    checked = _add(commands, doctor, "doctor", "check this machine for a run", example)
    checked.usage = "orchestra doctor [--config FILE ... [key=value ...]] [--debug]"
    checked.set_defaults(takes_overrides=True)
    _add_config(checked, required=False)
    return parser


def _add_run(
    commands: Commands, command: Command, name: str, summary: str, example: str
) -> _Parser:
    parser = _add_configured(commands, command, name, summary, example, "[--dry-run [--calls N]]")
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


def _add_report(commands: Commands) -> None:
    parser = _add(
        commands,
        report,
        "report",
        "make one page of a run, or of several side by side",
        "orchestra report runs/study-1 runs/study-2 runs/study-3 --out study.html",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run")
    parser.add_argument(
        "--out", metavar="FILE", help="the page (default: report.html in the first run's folder)"
    )


def _add_ledger(commands: Commands) -> None:
    parser = _add(
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
        type=_count,
        default=40,
        help="at most so many lines; the cheapest become one (default: 40)",
    )


def _add_judge(commands: Commands) -> None:
    parser = _add(
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
    _add_config(parser, required=False)
    parser.set_defaults(takes_overrides=True)


def _add_tools(commands: Commands) -> None:
    group = commands.add_parser(
        "tools",
        help="list the catalogue, or have its models described",
        description="Lists the catalogue, or has its models described by another model.",
        epilog="example: orchestra tools list --config configs/quickstart.yaml",
        allow_abbrev=False,
    )
    nested = group.add_subparsers(required=True, metavar="command")
    listed = _add_configured(
        nested,
        tools_list,
        "tools list",
        "print models and tools with their prices, and what is absent on this machine",
        "orchestra tools list --config configs/quickstart.yaml",
        "[--probe]",
    )
    listed.add_argument(
        "--probe",
        action="store_true",
        help="try each endpoint, by a request for one token, and each MCP server",
    )
    parser = _add_configured(
        nested,
        tools_describe,
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
        "--tasks", metavar="N", type=_count, default=10, help="tasks for each (default: 10)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="the new catalogue (default: beside it, as NAME_described)"
    )


def _add_preferences(commands: Commands) -> None:
    group = commands.add_parser(
        "preferences",
        help="make instructions of users and the weights that they mean",
        description="Makes instructions of users and the weights that they mean.",
        epilog="example: orchestra preferences make --config mine.yaml --out preferences.jsonl",
        allow_abbrev=False,
    )
    nested = group.add_subparsers(required=True, metavar="command")
    parser = _add_configured(
        nested,
        preferences_make,
        "preferences make",
        "write pairs of instruction and weights, split into train and held out",
        "orchestra preferences make --config configs/quickstart.yaml --out preferences.jsonl",
        "--out FILE [--count N] [--by NAME --validator NAME]",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="the new file, JSONL")
    parser.add_argument(
        "--count", metavar="N", type=_count, default=1_000, help="pairs in all (default: 1000)"
    )
    parser.add_argument(
        "--by", metavar="NAME", help="a model that proposes them (default: none, by templates)"
    )
    parser.add_argument(
        "--validator", metavar="NAME", help="a second model that checks what the first proposes"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _add_configured(
    commands: Commands, command: Command, name: str, summary: str, example: str, more: str = ""
) -> _Parser:
    parser = _add(commands, command, name, summary, example)
    words = ["orchestra", name, "--config FILE [--config FILE ...] [key=value ...]", more]
    parser.usage = " ".join(word for word in [*words, "[--debug]"] if word)
    _add_config(parser, required=True)
    parser.set_defaults(takes_overrides=True)
    return parser


def _add_config(parser: _Parser, required: bool) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        required=required,
        help="YAML file; a later one overrides an earlier one, and key=value overrides both",
    )


def _add(commands: Commands, command: Command, name: str, summary: str, example: str) -> _Parser:
    parser = commands.add_parser(
        name.rpartition(" ")[2],
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command, takes_overrides=False, name=name)
    return parser


def _fail(code: int, message: str, debug: bool) -> int:
    if debug:
        print(traceback.format_exc(), end="", file=sys.stderr)  # at once: a secret may have lines
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
