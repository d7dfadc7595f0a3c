"""The bench: all judges of one process, each made when a task first asks for it.

A task names its judge in its payload; one of reasoning-gym names none, and has its family's own
scorer. All answers of a group are judged together, within one deadline. Whatever goes wrong is a
`Failure` for the group.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from orchestra_ray.config.schema import CassetteConfig, Config, JudgeConfig
from orchestra_ray.config.validation import cassette_of, run_folder
from orchestra_ray.core.bugs import bug
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import Caller, GroupSpec, Task, Trajectory
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.data.tasks.reasoning_gym import reference
from orchestra_ray.data.tasks.source import OWN_SCORER
from orchestra_ray.workers.reward.judges.choice import is_choice
from orchestra_ray.workers.reward.judges.code import CodeGrader
from orchestra_ray.workers.reward.judges.exact import is_exact
from orchestra_ray.workers.reward.judges.family import FamilyGrader
from orchestra_ray.workers.reward.judges.hotpotqa import is_exact_match, is_f1_match
from orchestra_ray.workers.reward.judges.llm import JudgeCaller, LlmJudge
from orchestra_ray.workers.reward.judges.mathematics import MathGrader
from orchestra_ray.workers.reward.judges.number import is_number
from orchestra_ray.workers.reward.judges.rules import RULES
from orchestra_ray.workers.reward.judges.verdict import Grader, Verdict, failed
from orchestra_ray.workers.reward.judges.verdicts import Verdicts
from orchestra_ray.workers.tools.runtime.executor import Books

SHARE_OF_DEADLINE = 0.9  # of the whole score's, so that a failure still gets back in time

PLAIN: Mapping[str, Callable[[Task, str], bool]] = {
    "exact": lambda task, answer: is_exact(reference(task), answer),
    "number": lambda task, answer: is_number(reference(task), answer),
    "choice": lambda task, answer: is_choice(
        reference(task), answer, task.payload.get("choices", ())
    ),
    "hotpotqa": lambda task, answer: is_exact_match(reference(task), answer),
    "hotpotqa_f1": lambda task, answer: is_f1_match(reference(task), answer),
}
PROCESSES: Mapping[str, Callable[[], Grader]] = {
    OWN_SCORER: FamilyGrader,
    "math": MathGrader,
    "code": CodeGrader,
}


@dataclass(frozen=True, slots=True)
class GraderInputs:
    """What a process needs to judge; a record that travels. The defaults do for plain judges."""

    config: JudgeConfig = field(default_factory=JudgeConfig)
    catalogue: Catalogue = Catalogue({}, "")
    cassette: CassetteConfig = field(default_factory=CassetteConfig)
    folder: str | None = None  # for verdicts that were paid for
    deadline_s: float = 300.0  # for the verdicts of one group
    count_calls: bool = False  # whether calls that cost nothing are reserved too


def grader_inputs(config: Config, catalogue: Catalogue, count_calls: bool = False) -> GraderInputs:
    return GraderInputs(
        config=config.judge,
        catalogue=catalogue,
        cassette=cassette_of(config),
        folder=str(run_folder(config).absolute()),
        deadline_s=SHARE_OF_DEADLINE * config.reward.deadline_s,
        count_calls=count_calls,
    )


class GraderRegistry:
    def __init__(self, judging: GraderInputs, books: Books | None = None):
        """Without `books` there is no LLM judge."""
        self._judging, self._books = judging, books
        self._judges: dict[str, Grader] = {}
        self._caller: JudgeCaller | None = None
        self._verdicts: Verdicts | None = None

    async def verdicts(
        self, group: GroupSpec, trajectories_G: Sequence[Trajectory]
    ) -> list[Verdict] | Failure:
        """A verdict for each trajectory, in their order."""
        judge, deadline_s = grader_of(group.task), self._judging.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                verdicts_G = await asyncio.gather(
                    *(self._verdict(group, t.episode_id, t.answer) for t in trajectories_G)
                )
        except TimeoutError:
            return failed(judge, f"{group.task.task_id}: no verdicts within {deadline_s:g} s")
        except Exception as error:  # a bug of ours costs one group, not the run
            kind, what = FailureKind.REWARD, described(group.task, error)
            return bug(kind, f"judge {judge}", error, is_private(group.task), what)
        failure = next((one for one in verdicts_G if isinstance(one, Failure)), None)
        if failure is not None:
            return replace(failure, message=f"{group.task.task_id}: {failure.message}")
        return [one for one in verdicts_G if isinstance(one, Verdict)]

    async def close(self) -> None:
        await asyncio.gather(*(judge.close() for judge in self._judges.values()))
        if self._caller is not None:
            await self._caller.close()

    async def _verdict(
        self, group: GroupSpec, episode_id: str, answer: str | None
    ) -> Verdict | Failure:
        if answer is None:
            return Verdict(False, "no answer")
        judge = self._judge(grader_of(group.task))
        caller = Caller(group.step, group.group_id, f"{episode_id}/judge", 0)
        return await judge.judge(group.task, answer, caller)

    def _judge(self, name: str) -> Grader:
        if name not in self._judges:
            self._judges[name] = self._made(name)
        return self._judges[name]

    def _made(self, name: str) -> Grader:
        if name in PLAIN:
            return PlainGrader(PLAIN[name])
        if name in PROCESSES:
            return PROCESSES[name]()
        if name not in RULES:
            raise ConfigError(f"there is no judge {name}; choose from: {', '.join(NAMES)}")
        if self._books is None:
            raise ConfigError(f"the judge {name} has no books to enter its calls in; give them")
        judging = self._judging
        if self._caller is None:
            self._caller = JudgeCaller(
                judging.catalogue, judging.config, judging.cassette, self._books
            )
        if self._verdicts is None:
            self._verdicts = Verdicts(judging.folder)
        return LlmJudge(name, RULES[name], self._caller, self._verdicts, judging.config.tries)


class PlainGrader:
    """A `Judge` that is a pure function; in a thread, so that a slow one holds up nobody's loop."""

    def __init__(self, decide: Callable[[Task, str], bool]):
        self._decide = decide
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")

    async def judge(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        loop = asyncio.get_running_loop()
        correct = await loop.run_in_executor(self._thread, self._decide, task, answer)
        return Verdict(correct, "matches" if correct else "does not match")

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


NAMES = (*PLAIN, *PROCESSES, *RULES)


def grader_of(task: Task) -> str:
    return str(task.payload.get("judge", OWN_SCORER))


def described(task: Task, error: Exception) -> str:
    """One line of an error about a task; a private task's error may quote it, so it is left out."""
    what = type(error).__name__ if is_private(task) else f"{type(error).__name__}: {error}"
    return f"{task.task_id}: {what}"
