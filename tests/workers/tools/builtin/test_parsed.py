"""What is read out of a model's answer by its parser, and out of its turn as the policy."""

import asyncio

import pytest

from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.data.catalogue.parsers import Parser
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.builtin.recipe import Parsed
from orchestra_ray.workers.tools.endpoint.completion import PolicyTurn

OPTION = ToolOption("m", "m", "model", "", Prices(), 0.0)
MESSAGES = ({"role": "user", "content": "What is 6 x 7?"},)
CALLS = ('{"name": "python", "arguments": {"code": "print(6 * 7)"}}',)


class Says:
    """A tool that replies with a text."""

    def __init__(self, text: str):
        self._text = text

    async def call(self, request: ToolRequest) -> Reply:
        return Reply(self._text)

    async def close(self) -> None:
        pass


def replied(text: str, messages: tuple[dict[str, str], ...]) -> str:
    task = Task("t", "f", "What is 6 x 7?", {})
    request = ToolRequest("c", Caller(0, "g", "e", 0), OPTION, {}, task, 0, 0, messages=messages)
    return asyncio.run(Parsed(Says(text), Parser.BOXED).call(request)).text


def test_an_answer_is_what_the_parser_finds() -> None:
    assert replied(r"It is \boxed{42}.", ()) == "42"


@pytest.mark.parametrize(
    ("turn", "read"),
    [
        (PolicyTurn(r"It is \boxed{42}."), PolicyTurn("42")),
        (PolicyTurn("It is 42."), PolicyTurn("It is 42.")),
        (PolicyTurn(r"Not \boxed{42} yet.", CALLS), PolicyTurn(r"Not \boxed{42} yet.", CALLS)),
    ],
)
def test_of_a_policys_turn_it_reads_the_answer_and_leaves_a_turn_with_calls(
    turn: PolicyTurn, read: PolicyTurn
) -> None:
    assert PolicyTurn.load(replied(turn.dump(), MESSAGES)) == read
