"""Simulated experts: models that need no network.

A simulated expert knows a task with the probability of its skill for the task's family. Whether it
knows is sampled from the task and the expert alone, so it is the same for all callers and calls. If
not, it gives a plausible wrong answer. Tokens and seconds, on a simulated clock, are sampled from
the request's seed.
"""

import random

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Task, ToolRequest
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Entry
from orchestra_ray.data.tasks.reasoning_gym import reference
from orchestra_ray.workers.tools.base import Reply

CHARACTERS_PER_TOKEN = 4
PROMPT_OVERHEAD_TOKENS = 30


class SimulatedExpert:
    """A `Tool` without a network."""

    def __init__(self, entry: Entry):
        self._entry = entry

    async def call(self, request: ToolRequest) -> Reply:
        task, entry = request.task, self._entry
        knows = random.Random(derive_seed(task.task_id, entry.name)).random()
        seed = derive_seed(request.seed, task.task_id, entry.name, request.attempt)
        rng = random.Random(seed)
        right = knows < entry.skill_at(task.family)
        return Reply(
            text=reference(task) if right else plausible_wrong_answer(task, rng),
            usage=Usage(
                input_tokens=PROMPT_OVERHEAD_TOKENS + len(task.question) // CHARACTERS_PER_TOKEN,
                output_tokens=round(entry.output_tokens * rng.uniform(0.5, 1.5)),
            ),
            service_s=request.option.latency_s * rng.uniform(0.75, 1.25),
        )

    async def close(self) -> None:
        pass


def plausible_wrong_answer(task: Task, rng: random.Random) -> str:
    """Returns an answer of the same form as the reference that is never the reference."""
    right = reference(task)
    try:
        number = int(right)
    except ValueError:
        return right[::-1] if right[::-1] != right else right + right[-1:]
    off = rng.randint(1, max(3, abs(number) // 10))
    return str(number + off if number < off or rng.random() < 0.5 else number - off)
