"""LLM judge: a model behind an endpoint decides whether an answer is right, under a named rule.

The model is an entry of the catalogue, called through an `Executor` in the scorer's process: with
its retries, limits and deadline, from the run's cassette, reserved in the spend budget and entered
in the ledger as `judge`, under a separate episode id, so that the judged episode is not charged.

Each answer is judged once: verdicts are cached, and concurrent requests for the same verdict share
one call. An unreadable reply is requested again, up to `tries` calls in total; after that, or if
the model cannot be called, judging fails.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace

from orchestra_ray.config.schema import CassetteConfig, JudgeConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Caller, LedgerEntry, Task, ToolRequest
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.data.catalogue.parsers import Parser
from orchestra_ray.data.catalogue.toolset import plain_option
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.data.tasks.reasoning_gym import reference
from orchestra_ray.spend.client import SpendClient
from orchestra_ray.workers.reward.judges.rules import AGAIN, Rule
from orchestra_ray.workers.reward.judges.verdict import Verdict, failed
from orchestra_ray.workers.reward.judges.verdicts import Verdicts, digest
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.replay.cassette import CassetteError, open_cassette, version_of
from orchestra_ray.workers.tools.runtime.executor import Executor

IDENTITY = "judge"  # in the ledger, and its kind there
SHOWN_CHARACTERS = 80  # of an unreadable reply


def judge_entry(catalogue: Catalogue, config: JudgeConfig) -> Entry:
    """Returns the judge's entry, renamed; raises `ConfigError` if the configuration has none."""
    if config.model is None:
        raise ConfigError("judge.model: a task needs an LLM judge; name a model of the catalogue")
    entry = catalogue.entries.get(config.model)
    if entry is None or entry.kind is not Kind.MODEL or entry.backend != "endpoint":
        others = [n for n, e in catalogue.models.items() if e.backend == "endpoint"]
        known = f"choose from: {', '.join(others)}" if others else "the catalogue has none"
        raise ConfigError(f"judge.model: {config.model} is no model behind an endpoint; {known}")
    settings = {**entry.settings, "temperature": config.temperature}
    return replace(entry, name=IDENTITY, parser=Parser.TEXT, settings=settings)


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """A reply; `fault` is set if the call failed."""

    text: str
    entry: LedgerEntry
    fault: str | None


class JudgeCaller:
    """Calls the judging model, for the judges of all rules."""

    def __init__(
        self,
        catalogue: Catalogue,
        config: JudgeConfig,
        cassette: CassetteConfig,
        spend: SpendClient,
    ):
        """Must run on the calling event loop; raises `ConfigError` if the model is unavailable."""
        entry = judge_entry(catalogue, config)
        alone = Catalogue({IDENTITY: entry}, catalogue.price_sheet)
        option = plain_option(entry, catalogue.price_sheet)
        self._option = replace(option, identity=IDENTITY, kind=IDENTITY)
        self.version = version_of(alone.entries, self._option)
        tools = make_tools(alone, cassette.mode)
        self._executor = Executor(alone, tools, spend, open_cassette(cassette))
        self._calls: Counter[str] = Counter()

    async def ask(self, prompt: str, key: str, attempt: int, caller: Caller) -> JudgeReply:
        """`key` identifies the answer. Raises `CassetteError` if a replay lacks the call."""
        self._calls[key] += 1
        request = ToolRequest(
            call_id=f"{caller.episode_id}/{key}.{self._calls[key]}",
            caller=caller,
            option=self._option,
            arguments={"prompt": prompt},  # the key of the call in a recording
            task=Task(f"judge/{key}", IDENTITY, prompt, {}),
            seed=derive_seed("judge", key),
            attempt=attempt,
        )
        result = await self._executor.execute(request)
        return JudgeReply(result.text, result.entry, result.error)

    async def close(self) -> None:
        await self._executor.close()


class LlmJudge:
    """A `Grader` that asks a model, under one rule."""

    def __init__(self, name: str, rule: Rule, caller: JudgeCaller, verdicts: Verdicts, tries: int):
        self._name, self._rule, self._caller = name, rule, caller
        self._verdicts, self._tries = verdicts, tries
        self._under_way: dict[str, asyncio.Task[Verdict | Failure]] = {}

    async def grade(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        known = self._rule.known(reference(task), answer)
        if known is not None:
            return known
        prompt = self._rule.prompt(task.question, reference(task), answer)
        key = digest(self._name, self._caller.version, prompt)
        kept = self._verdicts.get(key)
        if kept is not None:
            return Verdict(kept, "judged before")
        asking = self._under_way.get(key)
        first = asking is None
        if asking is None:
            asking = asyncio.create_task(self._ask(prompt, key, caller, is_private(task)))
            self._under_way[key] = asking
            asking.add_done_callback(lambda _: self._under_way.pop(key))
        verdict = await asyncio.shield(asking)  # a cancelled caller leaves the call to the others
        return verdict if first or isinstance(verdict, Failure) else replace(verdict, entry=None)

    async def close(self) -> None:
        for asking in self._under_way.values():
            asking.cancel()

    async def _ask(self, prompt: str, key: str, caller: Caller, private: bool) -> Verdict | Failure:
        reply: JudgeReply | None = None
        for attempt in range(self._tries):
            shown = prompt if reply is None else f"{prompt}\n\n{AGAIN}"
            try:
                reply = await self._caller.ask(shown, key, attempt, caller)
            except CassetteError as error:
                return failed(self._name, str(error))
            if reply.fault is not None:
                return failed(self._name, f"no reply ({reply.fault}){_quoted(reply, private)}")
            correct = self._rule.read(reply.text)
            if correct is not None:
                self._verdicts.put(key, correct)
                return Verdict(correct, "the model's verdict", reply.entry)
        assert reply is not None, "tries is at least 1"
        unread = f"no readable verdict in {self._tries} replies"
        return failed(self._name, unread + _quoted(reply, private))


def _quoted(reply: JudgeReply, private: bool) -> str:
    """Returns an excerpt of a reply; empty for private tasks, whose question it may repeat."""
    return "" if private else f": {reply.text[:SHOWN_CHARACTERS]!r}"
