"""Calls models outside an episode, through an executor: on tasks, or with any prompt.

Each call has the deadline and the retries of its entry, is reserved against the spend budget and
entered in the ledger. A failed call says nothing about the ability of a model, so it is no trial.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Caller, Task, ToolRequest, ToolResult
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.describe import Ask, Messages, Trial
from orchestra_ray.data.catalogue.parsers import INSTRUCTIONS, Parser, parse
from orchestra_ray.data.catalogue.toolset import plain_option
from orchestra_ray.data.tasks.reasoning_gym import TaskSource
from orchestra_ray.data.tasks.scoring import BrokenTask
from orchestra_ray.sandbox.command import SandboxError
from orchestra_ray.sandbox.family_scorer import FamilyScorer
from orchestra_ray.spend.budget import MEASUREMENT
from orchestra_ray.spend.client import SpendClient
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor

MOST_LOST = 0.5  # of the tasks; beyond that the trials do not represent the model


@dataclass(frozen=True, slots=True)
class Tried:
    """The trials of a model, and the number of failed calls by class of fault."""

    trials: Sequence[Trial]
    faults: Mapping[str, int]


def pick_tasks(source: TaskSource, count: int, seed: int) -> list[Task]:
    """Returns tasks of all families in turn; the same ones for the same seed."""
    families = len(source.families)
    return [
        source.make(n % families, derive_seed(seed, "trial", n) % source.size) for n in range(count)
    ]


class StandaloneCaller:
    """Calls some models of a catalogue; answers are complete, since no parser is applied."""

    def __init__(self, catalogue: Catalogue, names: Sequence[str], spend: SpendClient, seed: int):
        """Runs on the event loop of the calls. Raises `ConfigError` if a model is unavailable."""
        self._entries = {name: catalogue.entries[name] for name in names}
        plain = {name: replace(e, parser=Parser.TEXT) for name, e in self._entries.items()}
        whole = replace(catalogue, entries=plain)
        self._executor = Executor(whole, make_tools(whole), spend)
        self._price_sheet, self._seed = catalogue.price_sheet, seed
        self._scorer = FamilyScorer()

    async def close(self) -> None:
        await asyncio.gather(self._executor.close(), self._scorer.close())

    async def try_out(self, name: str, tasks: Sequence[Task]) -> Tried:
        """Calls the model on every task; raises `ConfigError` if most of the calls fail."""
        entry = self._entries[name]
        results = await asyncio.gather(
            *(
                self._call(name, _with_instruction(task, entry.parser), n)
                for n, task in enumerate(tasks)
            )
        )
        trials = await asyncio.gather(
            *(
                self._trial(task, result.text, entry.parser)
                for task, result in zip(tasks, results, strict=True)
                if result.error is None
            )
        )
        lost = [result for result in results if result.error is not None]
        if len(lost) > MOST_LOST * len(tasks):
            problem = f"{len(lost)} of {len(tasks)} calls failed, the first with {lost[0].text}"
            raise ConfigError(
                f"{name}: {problem}; check that it can be called, or raise its limits"
            )
        return Tried(trials, Counter(str(result.error) for result in lost))

    async def _trial(self, task: Task, said: str, parser: Parser) -> Trial:
        try:
            scored = await self._scorer.score(task, parse(parser, said))
        except (BrokenTask, SandboxError) as error:
            raise ConfigError(f"{task.task_id}: {error}") from None
        return Trial(task.question, said, scored.correct)

    def asking(self, name: str, about: str) -> Ask:
        """Returns a function that asks the model about `about`; a fault becomes `ConfigError`."""
        asked = 0

        async def ask(messages: Messages) -> str:
            nonlocal asked
            task = Task(f"about {about}", "description", as_text(messages), {})
            asked += 1
            result = await self._call(name, task, asked - 1)
            if result.error is not None:
                problem = f"it cannot describe {about}: {result.text}"
                raise ConfigError(f"{name}: {problem}; check that it can be called")
            return result.text

        return ask

    def patience_s(self, name: str) -> float:
        """Returns a deadline beyond the executor's own for a call, in seconds."""
        return 2 * self._entries[name].limits.deadline_s

    async def _call(self, name: str, task: Task, n: int) -> ToolResult:
        option = plain_option(self._entries[name], self._price_sheet)
        episode = f"describe/{name}/{task.task_id}/{n}"
        return await self._executor.execute(
            ToolRequest(
                call_id=episode,
                caller=Caller(MEASUREMENT, f"describe/{name}", episode, 0),
                option=option,
                arguments={},
                task=task,
                seed=derive_seed(self._seed, episode),
                attempt=0,
            )
        )


def as_text(messages: Messages) -> str:
    """Returns a conversation as one message, since an executor sends only one."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"<{m['role']}>\n{m['content']}\n</{m['role']}>" for m in messages)


def _with_instruction(task: Task, parser: Parser) -> Task:
    """Returns the task with the instruction on how to mark the answer."""
    question = "\n\n".join(part for part in (task.question, INSTRUCTIONS[parser]) if part)
    return replace(task, question=question)
