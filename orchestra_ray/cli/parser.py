"""The parts that the commands' parsers share. Standard library only, so that help is fast."""

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from orchestra_ray.core.errors import ConfigError

Command = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def add_command(
    commands: Commands, command: Command, name: str, summary: str, example: str
) -> Parser:
    """Adds a command that takes no overrides. The last word of `name` is typed by the user."""
    parser = commands.add_parser(
        name.rpartition(" ")[2],
        help=summary,
        description=_sentence(summary),
        epilog=f"example: {example}",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command, takes_overrides=False, name=name)
    return parser


def add_configured(
    commands: Commands, command: Command, name: str, summary: str, example: str, more: str = ""
) -> Parser:
    """Adds a command that needs --config and takes overrides. `more`: options of its usage line."""
    parser = add_command(commands, command, name, summary, example)
    words = ["orchestra", name, "--config FILE [--config FILE ...] [key=value ...]", more]
    parser.usage = " ".join(word for word in [*words, "[--debug]"] if word)
    add_config(parser, required=True)
    return parser


def add_group(
    commands: Commands, name: str, summary: str, description: str, example: str
) -> Commands:
    """Adds a command that only holds others, and returns their place."""
    group = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example: {example}",
        allow_abbrev=False,
    )
    return group.add_subparsers(required=True, metavar="command")


def add_config(parser: Parser, required: bool) -> None:
    """Adds --config, and lets overrides follow."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        action="append",
        required=required,
        help="YAML file; a later one overrides an earlier one, and key=value overrides both",
    )
    parser.set_defaults(takes_overrides=True)


def count(text: str) -> int:
    """Argument type: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."
