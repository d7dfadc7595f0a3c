"""The registry of graders and LLM judges in a process, each created on first use.

A task names its grader under `judge` in its payload; reasoning-gym tasks name none and use the
scorer of their family. All answers of a group are graded together, within one deadline. Any error
is a `Failure` of the group.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from orchestra_ray.config.derived import cassette_of, run_folder
from orchestra_ray.config.schema import CassetteConfig, Config, JudgeConfig
from orchestra_ray.core.bugs import bug
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import Caller, GroupSpec, Task, Trajectory
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.data.tasks.reasoning_gym import reference
from orchestra_ray.data.tasks.source import OWN_SCORER
from orchestra_ray.spend.client import SpendClient
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

SHARE_OF_DEADLINE = 0.9  # of the deadline of scoring, so that a failure is returned in time

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
    """The inputs of a grading process, serialisable. The defaults suffice for plain graders."""

    config: JudgeConfig = field(default_factory=JudgeConfig)
    catalogue: Catalogue = Catalogue({}, "")
    cassette: CassetteConfig = field(default_factory=CassetteConfig)
    folder: str | None = None  # for paid verdicts
    deadline_s: float = 300.0  # for the verdicts of one group
    count_calls: bool = False  # whether calls without cost are reserved too


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
    def __init__(self, inputs: GraderInputs, spend: SpendClient | None = None):
        """Without `spend` there is no LLM judge."""
        self._inputs, self._spend = inputs, spend
        self._graders: dict[str, Grader] = {}
        self._caller: JudgeCaller | None = None
        self._verdicts: Verdicts | None = None

    async def verdicts(
        self, group: GroupSpec, trajectories_G: Sequence[Trajectory]
    ) -> list[Verdict] | Failure:
        """Returns a verdict for each trajectory, in their order."""
        name, deadline_s = grader_of(group.task), self._inputs.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                verdicts_G = await asyncio.gather(
                    *(self._verdict(group, t.episode_id, t.answer) for t in trajectories_G)
                )
        except TimeoutError:
            return failed(name, f"{group.task.task_id}: no verdicts within {deadline_s:g} s")
        except Exception as error:  # an internal bug costs one group, not the run
            kind, what = FailureKind.REWARD, describe_error(group.task, error)
            return bug(kind, f"judge {name}", error, is_private(group.task), what)
        failure = next((one for one in verdicts_G if isinstance(one, Failure)), None)
        if failure is not None:
            return replace(failure, message=f"{group.task.task_id}: {failure.message}")
        return [one for one in verdicts_G if isinstance(one, Verdict)]

    async def close(self) -> None:
        await asyncio.gather(*(grader.close() for grader in self._graders.values()))
        if self._caller is not None:
            await self._caller.close()

    async def _verdict(
        self, group: GroupSpec, episode_id: str, answer: str | None
    ) -> Verdict | Failure:
        if answer is None:
            return Verdict(False, "no answer")
        grader = self._grader(grader_of(group.task))
        caller = Caller(group.step, group.group_id, f"{episode_id}/judge", 0)
        return await grader.grade(group.task, answer, caller)

    def _grader(self, name: str) -> Grader:
        if name not in self._graders:
            self._graders[name] = self._created(name)
        return self._graders[name]

    def _created(self, name: str) -> Grader:
        if name in PLAIN:
            return PlainGrader(PLAIN[name])
        if name in PROCESSES:
            return PROCESSES[name]()
        if name not in RULES:
            raise ConfigError(f"unknown judge {name}; choose from: {', '.join(NAMES)}")
        if self._spend is None:
            raise ConfigError(f"the judge {name} has no spend client to record its calls; pass one")
        inputs = self._inputs
        if self._caller is None:
            self._caller = JudgeCaller(
                inputs.catalogue, inputs.config, inputs.cassette, self._spend
            )
        if self._verdicts is None:
            self._verdicts = Verdicts(inputs.folder)
        return LlmJudge(name, RULES[name], self._caller, self._verdicts, inputs.config.tries)


class PlainGrader:
    """A `Grader` around a pure function, run in a thread so as not to block the event loop."""

    def __init__(self, decide: Callable[[Task, str], bool]):
        self._decide = decide
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grader")

    async def grade(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        loop = asyncio.get_running_loop()
        correct = await loop.run_in_executor(self._thread, self._decide, task, answer)
        return Verdict(correct, "matches" if correct else "does not match")

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


NAMES = (*PLAIN, *PROCESSES, *RULES)


def grader_of(task: Task) -> str:
    return str(task.payload.get("judge", OWN_SCORER))


def describe_error(task: Task, error: Exception) -> str:
    """Returns an error about a task in one line, without the message if the task is private."""
    what = type(error).__name__ if is_private(task) else f"{type(error).__name__}: {error}"
    return f"{task.task_id}: {what}"
