"""Recipes: tools that a model performs. The policy chooses only the model.

The model writes what the recipe's parser reads: a program, a search query, or the answer itself. If
the recipe `runs` another tool, that tool is called with it, and its reply is the recipe's. The
model reads the task and the earlier results of tools in the episode; no text of the policy, and no
answer of another model.

A recipe is one call: its usage is the sum of its parts', and of its seconds only those of the tool
that it runs are billed. Cost and time are bounded by its own limits; limits on concurrency and rate
hold for the recipe and for its parts (`attempts`).
"""

import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestra_ray.core.faults import Fault
from orchestra_ray.core.money import Usage, sum_of_usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Entry, model_of
from orchestra_ray.data.catalogue.parsers import INSTRUCTIONS, Parser, find_marked, parse
from orchestra_ray.workers.tools.base import Reply, Tool
from orchestra_ray.workers.tools.endpoint.completion import PolicyTurn

QUERY_CHARACTERS = 5, 390  # a shorter query is replaced by the question, a longer one is cut
NOTHING = "[the model wrote nothing to run]"
_TASKS: Mapping[Parser, str] = {
    Parser.CODE: "Do not answer the problem yet. Write Python that computes intermediate results"
    " which bring its solution nearer, and prints them.",
    Parser.QUERY_TAG: "Do not answer the problem yet. Find out which information is missing to"
    " solve it, and ask a search engine for that, in a few key words or one short sentence.",
}


@dataclass(frozen=True, slots=True)
class RecipeSettings:
    """task: the instruction to the model that performs the recipe.

    None: the default for what the model is to write (a program, a query, an answer).
    """

    task: str | None = None


class Parsed:
    """A model that is asked to mark its answer; its reply is reduced to the marked part."""

    def __init__(self, model: Tool, parser: Parser):
        self._model, self._parser = model, parser

    async def call(self, request: ToolRequest) -> Reply:
        question = f"{request.task.question}\n\n{INSTRUCTIONS[self._parser]}"
        reply = await self._model.call(_about(request, question))
        if not request.messages:
            return replace(reply, text=parse(self._parser, reply.text))
        turn = PolicyTurn.load(reply.text)  # a policy's turn: only its answer is parsed
        said = turn.said if turn.calls else parse(self._parser, turn.said)
        return replace(reply, text=replace(turn, said=said).dump())

    async def close(self) -> None:
        await self._model.close()


class Recipe:
    """A `Tool` over its models and the tool that it runs, which it does not close."""

    def __init__(
        self,
        entry: Entry,
        settings: RecipeSettings,
        models: Mapping[str, Tool],
        runs: "tuple[Entry, Tool] | None" = None,
    ):
        """models: unparsed if the recipe has a parser of its own."""
        self._parser, self._models, self._runs = entry.parser, models, runs
        task = _TASKS.get(entry.parser, "") if settings.task is None else settings.task
        self._task = f"{task} {INSTRUCTIONS[entry.parser]}".strip()

    async def call(self, request: ToolRequest) -> Reply:
        prompt = prompt_of(request.found, request.task.question, self._task)
        asked = replace(_about(request, prompt), option=request.option.choices[0], arguments={})
        said, said_s = await _timed(self._models[model_of(request.option)].call(asked))
        if self._runs is None:
            return replace(said, text=_read(self._parser, said.text), service_s=said_s)
        part = part_of(self._parser, said.text, request.task.question)
        if part is None:
            return Reply(NOTHING, replace(said.usage, billed_s=0.0), said_s)
        entry, tool = self._runs
        given = replace(request, arguments={argument_of(entry): part})
        try:
            done, done_s = await _timed(tool.call(given))
        except Fault as fault:
            usage = _together(said.usage, _usage_of(fault, entry), 0.0)
            raise Fault(fault.kind, str(fault), usage, fault.retry_after_s) from None
        return Reply(done.text, _together(said.usage, done.usage, done_s), said_s + done_s)

    async def close(self) -> None:
        pass


def argument_of(entry: Entry) -> str:
    """Returns the only required argument of a tool; raises KeyError if there is not exactly one."""
    required = entry.parameters.get("required", ())
    if len(required) != 1:
        raise KeyError(entry.name)
    return required[0]


def prompt_of(found_before: Sequence[str], question: str, task: str) -> str:
    """Returns the prompt; the task comes last, since an overlong prompt loses its middle."""
    before = ["What was found so far:", *found_before] if found_before else []
    return "\n\n".join(filter(None, [*before, "Problem:", question, task]))


def part_of(parser: Parser, said: str, question: str) -> str | None:
    """Returns the argument of the tool to run; None if the model wrote none."""
    if parser is Parser.QUERY_TAG:
        least, most = QUERY_CHARACTERS
        query = find_marked(parser, said) or ""
        return (query if len(query) >= least else question)[:most]
    return said if parser is Parser.TEXT else find_marked(parser, said)


def _read(parser: Parser, said: str) -> str:
    return said if parser is Parser.TEXT else parse(parser, said)


def _about(request: ToolRequest, question: str) -> ToolRequest:
    return replace(request, task=replace(request.task, question=question))


async def _timed(reply: Awaitable[Reply]) -> tuple[Reply, float]:
    """Returns the reply and its seconds, on the simulated clock if there is one."""
    started_s = time.monotonic()
    made = await reply
    measured_s = time.monotonic() - started_s
    return made, measured_s if made.service_s is None else made.service_s


def _usage_of(fault: Fault, entry: Entry) -> Usage:
    """Returns the usage of the failed part; the maximum if it is unknown."""
    if fault.usage is not None or not fault.may_have_acted:
        return fault.usage or Usage()
    return Usage(searches=entry.limits.max_searches, billed_s=entry.limits.max_service_s)


def _together(said: Usage, done: Usage, done_s: float) -> Usage:
    return sum_of_usage(said, done, done_s if done.billed_s is None else done.billed_s)
