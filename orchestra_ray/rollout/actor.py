"""The rollout worker: a Ray async actor with a vLLM engine that plays groups of episodes.

Trajectories go into the object store from here; what streams to the driver are cards with
references. Control calls have a concurrency group of their own, so that episodes in flight can
never keep a weight update waiting. Ray gives each group an event loop of its own; the engine
belongs to that of the episodes, and control calls reach it there.
"""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.actor import ActorHandle

from orchestra_ray.catalogue import Catalogue
from orchestra_ray.config import Config
from orchestra_ray.core.records import Card, GroupSpec
from orchestra_ray.core.states import Failure
from orchestra_ray.rollout.chat import Chat
from orchestra_ray.rollout.engine import Engine
from orchestra_ray.rollout.episode import Stage, run_episode
from orchestra_ray.rollout.parsing import PARSERS
from orchestra_ray.rollout.policy import Completion, Policy, Router, View, routers
from orchestra_ray.tools.actor import ToolPool

EPISODE_SLOTS = 10_000
T = TypeVar("T")


class ModelPolicy:
    """The model in training, behind vLLM."""

    def __init__(self, engine: Engine, config: Config, end_id: int):
        self._engine, self._config, self._end_id = engine, config, end_id

    async def respond(self, view: View) -> Completion | Failure:
        limits = self._config.rollout
        return await self._engine.generate(
            request_id=view.request_id,
            prompt_token_ids=view.prompt_ids,
            max_tokens=limits.max_response_tokens,
            temperature=0.0 if view.group.greedy else limits.temperature,
            seed=view.seed,
            stop_token_ids=[self._end_id],
            deadline_s=view.deadline_s,
        )


@ray.remote(concurrency_groups={"control": 8, "episodes": EPISODE_SLOTS})
class RolloutWorker:
    """Made with its parts, started with `start`, then `play` and `update_weights` at any time."""

    def __init__(
        self,
        config: Config,
        model_path: str,
        catalogue: Catalogue,
        executors: Sequence[ActorHandle],
        seed: int,
    ):
        self._config, self._model_path, self._seed = config, model_path, seed
        self._catalogue, self._executors = catalogue, executors

    @ray.method(concurrency_group="episodes")
    async def start(self, gcs_address: str, namespace: str, board: str) -> Mapping[str, float]:
        """Starts and warms the engine and joins the weight board; seconds of each."""
        self._loop = asyncio.get_running_loop()
        config, started_s = self._config, time.monotonic()
        self._engine = await Engine.start(config, self._model_path, self._seed)
        engine_s = time.monotonic() - started_s
        await self._engine.warm_up()
        await self._engine.init_transfer(gcs_address, namespace, board)
        chat = Chat(self._model_path, config.model.chat_template)
        policies: dict[str, Policy] = {
            name: Router(chat, choose) for name, choose in routers(self._catalogue).items()
        }
        policies["model"] = ModelPolicy(self._engine, config, chat.end_id)
        self._stage = Stage(
            chat=chat,
            parse=PARSERS[config.model.tool_parser],
            policies=policies,
            tools=ToolPool(self._executors, config.tools.call_deadline_s),
            model=config.model,
            limits=config.rollout,
            submit=config.catalogue.submit,
        )
        return {"engine_s": engine_s, "warm_up_s": time.monotonic() - started_s - engine_s}

    @ray.method(concurrency_group="episodes")
    async def play(self, group: GroupSpec) -> AsyncIterator[tuple[Card, ray.ObjectRef | None]]:
        """(card, reference to the trajectory) of each episode, as they end."""
        episodes = [run_episode(self._stage, group, spec) for spec in group.episodes]
        for ended in asyncio.as_completed(episodes):
            trajectory, card = await ended
            yield card, (None if trajectory is None else ray.put(trajectory))

    @ray.method(concurrency_group="control")
    async def update_weights(self, version: int) -> Mapping[str, float]:
        """Loads a published version while episodes are in flight; seconds of each part."""
        return await self._on_engine_loop(self._engine.update_weights(version))

    @ray.method(concurrency_group="control")
    async def usage(self) -> Mapping[str, Any]:
        """Peak memory of this process and of its largest child, the engine, in MiB."""
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_mib": own / 1024, "version": self._engine.version}

    @ray.method(concurrency_group="control")
    async def stop(self) -> None:
        await self._on_engine_loop(self._engine.stop())

    async def _on_engine_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
