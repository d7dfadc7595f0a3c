"""The rollout worker: a Ray async actor that runs groups of episodes on a vLLM engine.

Results are streamed to the driver as object references: the driver reads the episode summaries and
never a trajectory. Control calls (weight updates, logs, shutdown) have their own concurrency group,
so episodes in flight cannot delay a weight update. Ray gives each concurrency group its own event
loop; the engine belongs to the loop of the episodes, and control calls are forwarded to that loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import psutil
import ray
from ray.actor import ActorClass, ActorProxy

from orchestra_ray.config import Config
from orchestra_ray.config.model_folder import model_folder
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.policy_names import MODEL
from orchestra_ray.core.process_log import ProcessLog, own_log
from orchestra_ray.core.records import EpisodeSummary, GroupSpec, Trajectory
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.spend.actor import SpendActor
from orchestra_ray.tracking.redact import Redactor, protect_logs
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import context_of
from orchestra_ray.workers.rollout.endpoint_policy import endpoint_policies
from orchestra_ray.workers.rollout.engine import Engine, EngineFailed
from orchestra_ray.workers.rollout.episode import EpisodeContext, run_episode
from orchestra_ray.workers.rollout.parsing import PARSERS
from orchestra_ray.workers.rollout.policies import Completion, Policy, PolicyInput, Router, routers
from orchestra_ray.workers.tools.actor import ToolExecutor, ToolPool
from orchestra_ray.workers.tools.runtime.health import PoolState

EPISODE_SLOTS = 10_000
T = TypeVar("T")


class ModelPolicy:
    """The model in training, served by vLLM."""

    def __init__(self, engine: Engine, config: Config, stop_ids: Sequence[int]):
        self._engine, self._config, self._stop_ids = engine, config, stop_ids

    async def respond(self, policy_input: PolicyInput) -> Completion | Failure:
        limits = self._config.rollout
        return await self._engine.generate(
            request_id=policy_input.request_id,
            prompt_token_ids=policy_input.prompt_ids,
            max_tokens=limits.max_response_tokens,
            temperature=0.0 if policy_input.group.greedy else limits.temperature,
            seed=policy_input.seed,
            stop_token_ids=self._stop_ids,
            deadline_s=policy_input.deadline_s,
        )


GROUPS = {"control": 8, "episodes": EPISODE_SLOTS}


class RolloutWorker:
    """Await `start` first; then `run_group` and `update_weights` may be called at any time."""

    def __init__(
        self,
        config: Config,
        model_path: str,
        catalogue: Catalogue,
        executors: Sequence[ActorProxy[ToolExecutor]],
        spend: ActorProxy[SpendActor],
        index: int,
        serves: bool = True,
    ):
        """serves: whether the trained model is a policy here; if not, no engine is started."""
        protect_logs(Redactor.of())
        self._config, self._model_path, self._index = config, model_path, index
        self._serves, self._engine = serves, None
        self._catalogue, self._executors, self._spend = catalogue, executors, spend

    @ray.method(concurrency_group="episodes")
    async def start(self, gcs_address: str, namespace: str, registry: str) -> Mapping[str, float]:
        """Starts and warms up the engine, joins the weight registry; returns seconds by phase."""
        self._loop = asyncio.get_running_loop()
        config, started_s = self._config, time.monotonic()
        folder = await asyncio.to_thread(model_folder, self._model_path)
        chat = Chat(folder, config.model.chat_template)
        policies: dict[str, Policy] = {
            name: Router(chat, choose) for name, choose in routers(self._catalogue).items()
        }
        engine_s = 0.0
        if self._serves:
            engine = await Engine.start(config, folder, config.seed + self._index)
            engine_s = time.monotonic() - started_s
            await engine.warm_up()
            await engine.init_transfer(gcs_address, namespace, registry)
            policies[MODEL] = ModelPolicy(engine, config, chat.stop_ids)
            self._engine = engine
        submit = config.catalogue.submit
        context = context_of(chat, config.rollout, submit)
        name = f"rollout worker {self._index}"
        tools = self._tools = ToolPool(self._executors, self._spend, self._catalogue, name)
        policies |= endpoint_policies(self._catalogue, chat, context, tools, submit)
        self._context = EpisodeContext(
            chat=chat,
            context=context,
            parse=PARSERS[config.model.tool_parser],
            policies=policies,
            tools=tools,
            model=config.model,
            limits=config.rollout,
            price_sheet=self._catalogue.price_sheet,
            submit=submit,
        )
        return {"engine_s": engine_s, "warm_up_s": time.monotonic() - started_s - engine_s}

    @ray.method(concurrency_group="episodes")
    async def run_group(
        self, group: GroupSpec
    ) -> AsyncIterator[Trajectory | EpisodeSummary | None]:
        """Yields for each episode, in order of completion, its trajectory and then its summary.

        The trajectory is None if the episode failed. Each is a separate object of the stream, owned
        by the driver, which reads the summaries and passes on the references of the trajectories.
        Raises `EngineFailed` if the engine can serve no more requests; the worker must then be
        replaced.
        """
        episodes = [run_episode(self._context, group, spec) for spec in group.episodes]
        for ended in asyncio.as_completed(episodes):
            trajectory, summary = await ended
            yield trajectory
            yield summary
        if self._engine is not None and self._engine.failure is not None:
            failure = self._engine.failure
            raise EngineFailed(failure.message, failure.log)

    @ray.method(concurrency_group="control")
    async def update_weights(self, version: int) -> Mapping[str, float]:
        """Loads a published version with episodes in flight; returns seconds by phase."""
        assert self._engine is not None
        return await self._on_engine_loop(self._engine.update_weights(version))

    @ray.method(concurrency_group="control")
    async def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method(concurrency_group="control")
    async def peak_mib(self) -> Mapping[str, float]:
        """Returns the peak memory of this process and of the largest vLLM child process."""
        below = psutil.Process().children(recursive=True)
        engine = max((peak_mib(child.pid) for child in below), default=0.0)
        return {"rollout": peak_mib(), "engine": engine}

    @ray.method(concurrency_group="control")
    async def drain(self) -> int:
        """Waits until all entries made here are recorded; returns the number of lost ones."""
        return await self._on_engine_loop(self._context.tools.drain())

    @ray.method(concurrency_group="control")
    async def pool_state(self) -> PoolState:
        """Returns the waiting calls of this worker and the executors that it can reach."""
        return await self._on_engine_loop(self._tools.state())

    @ray.method(concurrency_group="control")
    async def stop(self) -> None:
        if self._engine is not None:
            await self._on_engine_loop(self._engine.stop())

    async def _on_engine_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


# Ray's types do not know `concurrency_groups`.
RemoteRolloutWorker: ActorClass[RolloutWorker] = ray.remote(  # pyright: ignore[reportCallIssue]
    concurrency_groups=GROUPS
)(RolloutWorker)
