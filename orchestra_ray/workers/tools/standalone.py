"""A model tried on tasks, and another that is asked anything: both through the executor.

So each call keeps its deadline and its retries, is reserved at the spend guard and entered in the
books. A call that failed says nothing of what the model can do, so it is no trial.
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
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.runtime.executor import Books, Executor

MOST_LOST = 0.5  # of the tasks; with more, there is no picture of the model


@dataclass(frozen=True, slots=True)
class Tried:
    """What became trials, and how many calls failed by the class of their fault."""

    trials: Sequence[Trial]
    faults: Mapping[str, int]


def pick_tasks(source: TaskSource, count: int, seed: int) -> list[Task]:
    """Families in turn; the same tasks for the same seed, whichever model they are for."""
    families = len(source.families)
    return [
        source.make(n % families, derive_seed(seed, "trial", n) % source.size) for n in range(count)
    ]


class StandaloneCaller:
    """Some models of a catalogue, each answering in full: no parser shortens what it said."""

    def __init__(self, catalogue: Catalogue, names: Sequence[str], books: Books, seed: int):
        """On the event loop that will call. `ConfigError` where one cannot be asked here."""
        self._entries = {name: catalogue.entries[name] for name in names}
        plain = {name: replace(e, parser=Parser.TEXT) for name, e in self._entries.items()}
        whole = replace(catalogue, entries=plain)
        self._executor = Executor(whole, make_tools(whole), books)
        self._price_sheet, self._seed = catalogue.price_sheet, seed
        self._scorer = FamilyScorer()

    async def close(self) -> None:
        await asyncio.gather(self._executor.close(), self._scorer.close())

    async def try_out(self, name: str, tasks: Sequence[Task]) -> Tried:
        """Gives every task to the model; `ConfigError` where most of its calls fail."""
        entry = self._entries[name]
        results = await asyncio.gather(
            *(self._call(name, _marked(task, entry.parser), n) for n, task in enumerate(tasks))
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
            raise ConfigError(f"{name}: {problem}; see that it can be asked, or raise its limits")
        return Tried(trials, Counter(str(result.error) for result in lost))

    async def _trial(self, task: Task, said: str, parser: Parser) -> Trial:
        try:
            scored = await self._scorer.score(task, parse(parser, said))
        except (BrokenTask, SandboxError) as error:
            raise ConfigError(f"{task.task_id}: {error}") from None
        return Trial(task.question, said, scored.correct)

    def asking(self, name: str, about: str) -> Ask:
        """A way to ask the model what is said of `about`; a fault is a `ConfigError`."""
        asked = 0

        async def ask(messages: Messages) -> str:
            nonlocal asked
            task = Task(f"about {about}", "description", as_text(messages), {})
            asked += 1
            result = await self._call(name, task, asked - 1)
            if result.error is not None:
                problem = f"it cannot describe {about}: {result.text}"
                raise ConfigError(f"{name}: {problem}; see that it can be asked")
            return result.text

        return ask

    def patience_s(self, name: str) -> float:
        """Beyond the deadline that the executor itself keeps for a call."""
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
    """A conversation as one message, which is all that an executor sends."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"<{m['role']}>\n{m['content']}\n</{m['role']}>" for m in messages)


def _marked(task: Task, parser: Parser) -> Task:
    """The task with the word on how to mark its answer."""
    question = "\n\n".join(part for part in (task.question, INSTRUCTIONS[parser]) if part)
    return replace(task, question=question)
