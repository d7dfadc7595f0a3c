"""LLM judge: a model behind an endpoint says whether an answer is right, under a rule's convention.

The model is an entry of the catalogue, called through an `Executor` of the scorer's own: with its
retries, limits and deadline, from the run's cassette, reserved at the spend guard and entered in
the ledger as `judge`, in an episode of its own, so that no episode that is judged pays for it.

One answer is asked about once: verdicts are kept, and who asks for one that is under way waits for
it. A reply that cannot be read is asked for again, at most `tries` times in all; after that, and
where the model cannot be asked, the judge fails.
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
from orchestra_ray.workers.reward.judges.rules import AGAIN, Rule
from orchestra_ray.workers.reward.judges.verdict import Verdict, failed
from orchestra_ray.workers.reward.judges.verdicts import Verdicts, digest
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.replay.cassette import CassetteError, open_cassette, version_of
from orchestra_ray.workers.tools.runtime.executor import Books, Executor

IDENTITY = "judge"  # in the ledger, and its kind there
SHOWN_CHARACTERS = 80  # of a reply that cannot be read


def judging_entry(catalogue: Catalogue, config: JudgeConfig) -> Entry:
    """The judge's entry under its own name; `ConfigError` where the configuration gives none."""
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
class Said:
    """A reply, or the fault that there is in its place."""

    text: str
    entry: LedgerEntry
    fault: str | None


class JudgeCaller:
    """The judging model, for the judges of all rules."""

    def __init__(
        self, catalogue: Catalogue, config: JudgeConfig, cassette: CassetteConfig, books: Books
    ):
        """On the event loop that will ask; `ConfigError` where the model cannot be asked here."""
        entry = judging_entry(catalogue, config)
        alone = Catalogue({IDENTITY: entry}, catalogue.price_sheet)
        option = plain_option(entry, catalogue.price_sheet)
        self._option = replace(option, identity=IDENTITY, kind=IDENTITY)
        self.version = version_of(alone.entries, self._option)
        tools = make_tools(alone, cassette.mode)
        self._executor = Executor(alone, tools, books, open_cassette(cassette))
        self._asked: Counter[str] = Counter()

    async def ask(self, prompt: str, key: str, attempt: int, caller: Caller) -> Said:
        """`key` names what is judged. Raises `CassetteError` where a replay cannot go on."""
        self._asked[key] += 1
        request = ToolRequest(
            call_id=f"{caller.episode_id}/{key}.{self._asked[key]}",
            caller=caller,
            option=self._option,
            arguments={"prompt": prompt},  # by which a recording knows the call
            task=Task(f"judge/{key}", IDENTITY, prompt, {}),
            seed=derive_seed("judge", key),
            attempt=attempt,
        )
        result = await self._executor.execute(request)
        return Said(result.text, result.entry, result.error)

    async def close(self) -> None:
        await self._executor.close()


class LlmJudge:
    """A `Judge` under one rule."""

    def __init__(self, name: str, rule: Rule, caller: JudgeCaller, verdicts: Verdicts, tries: int):
        self._name, self._rule, self._caller = name, rule, caller
        self._verdicts, self._tries = verdicts, tries
        self._under_way: dict[str, asyncio.Task[Verdict | Failure]] = {}

    async def judge(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
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
        said = await asyncio.shield(asking)  # who gives up leaves the verdict to the others
        return said if first or isinstance(said, Failure) else replace(said, entry=None)

    async def close(self) -> None:
        for asking in self._under_way.values():
            asking.cancel()

    async def _ask(self, prompt: str, key: str, caller: Caller, private: bool) -> Verdict | Failure:
        said: Said | None = None
        for attempt in range(self._tries):
            shown = prompt if said is None else f"{prompt}\n\n{AGAIN}"
            try:
                said = await self._caller.ask(shown, key, attempt, caller)
            except CassetteError as error:
                return failed(self._name, str(error))
            if said.fault is not None:
                return failed(self._name, f"no reply ({said.fault}){_quoted(said, private)}")
            correct = self._rule.read(said.text)
            if correct is not None:
                self._verdicts.put(key, correct)
                return Verdict(correct, "the model's verdict", said.entry)
        assert said is not None, "tries is 1 at least"
        unread = f"no verdict to be read in {self._tries} replies"
        return failed(self._name, unread + _quoted(said, private))


def _quoted(said: Said, private: bool) -> str:
    """What a person needs to see of a reply; a private task's may repeat its question."""
    return "" if private else f": {said.text[:SHOWN_CHARACTERS]!r}"
