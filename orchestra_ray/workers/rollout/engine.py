"""vLLM's AsyncLLM as a token-level engine whose weights are updated in flight.

Invariants: a failed request is returned as a value, and no request outlives its deadline in the
engine; every control call has a deadline; each token carries the version of the weights that
sampled it. All methods are called on the event loop that `start` ran on.

An update pauses the engine, loads, and resumes; requests in flight keep the KV cache computed with
the older weights and continue under the new weights. `versions` are exact nevertheless: the engine
core stamps its outputs, and changes the stamp only while it is paused between steps. The prefix
cache is not cleared, since vLLM can only clear it by recomputing every request in flight. Instead
the blocks of each request are hashed with a salt that changes with every update, so that a new
request never finds KV of older weights.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from itertools import pairwise
from typing import TypeVar

from vllm.distributed.weight_transfer.base import (
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)
from vllm.exceptions import VLLMError
from vllm.inputs.engine import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.outputs import CompletionOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ReportedError, first_line
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import LogTail, own_log
from orchestra_ray.workers.rollout.engine_args import engine_args, environment, sampling
from orchestra_ray.workers.rollout.policies import Completion

T = TypeVar("T")
WHERE = "rollout engine"
FETCH_SHARE = 0.5  # of an update's deadline, so that a worker reports its error before the deadline
STOP_S = 30.0
WARM_UP_REQUESTS, WARM_UP_PROMPT, WARM_UP_RESPONSE = 8, 64, 8


class EngineFailed(ReportedError):
    """A control call failed; one line with the call, the cause and the state of the engine.

    log: the tail of this process's log, which the engine's processes share.
    """

    def __init__(self, message: str, log: LogTail | None = None):
        super().__init__(message, log)  # both, or pickling loses the log
        self.log = log

    def __str__(self) -> str:
        return str(self.args[0])


class EngineRefused(EngineFailed):
    """An update was refused before the model changed: the old weights stay in use."""


class EngineUnresponsive(EngineFailed):
    """A control call exceeded its deadline; the state of the engine's processes is unknown."""


class Engine:
    """One vLLM engine in its own processes. Created by `start`."""

    def __init__(self, llm: AsyncLLM, config: Config, version: int):
        self._llm, self._config, self._version = llm, config, version
        self._failure: Failure | None = None
        self._in_flight: set[str] = set()
        self._updates = 0
        self._updating = asyncio.Lock()

    @classmethod
    async def start(cls, config: Config, model_path: str, seed: int, version: int = 0) -> "Engine":
        """Returns an engine that serves the weights in `model_path` as `version`."""
        deadline_s = config.rollout.start_deadline_s
        with _environment(environment(config)):
            args = engine_args(config, model_path, seed)
            starting = asyncio.to_thread(AsyncLLM.from_engine_args, args)
            llm = await _within(deadline_s, "start", starting)
        await _within(deadline_s, "start", llm.update_weight_version(str(version)))
        return cls(llm, config, version)

    @property
    def version(self) -> int:
        """The weight version that samples the next token."""
        return self._version

    @property
    def failure(self) -> Failure | None:
        """The reason why the engine must be replaced; None while it serves."""
        if self._failure is None and self._llm.errored:
            self._failure = _failure("the engine's process is gone", own_log().tail())
        return self._failure

    async def generate(
        self,
        request_id: str,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        temperature: float,
        seed: int,
        stop_token_ids: Sequence[int],
        deadline_s: float,
    ) -> Completion | Failure:
        """Samples until a stop token, which is part of the response, or `max_tokens`.

        Log-probabilities are of the distribution sampled from, temperature included; at
        temperature 0 they are those of temperature 1.
        """
        if self.failure is not None:
            return self.failure
        self._in_flight.add(request_id)
        try:
            params = sampling(max_tokens, temperature, seed, stop_token_ids)
            async with asyncio.timeout(deadline_s):
                output = await self._output(request_id, prompt_token_ids, params)
        except TimeoutError:
            message = f"request {request_id} ran past {deadline_s:g} s"
            return Failure(FailureKind.DEADLINE, WHERE, message)
        except (VLLMError, ValueError) as error:
            message = f"request {request_id}: {_line(error)}"
            # Such a request would be refused again under any weights.
            permanent = isinstance(error, ValueError)
            return self.failure or _failure(message, permanent=permanent)
        finally:
            self._in_flight.discard(request_id)
        if output.finish_reason not in ("stop", "length"):
            return self.failure or _failure(f"request {request_id} ended as {output.finish_reason}")
        return _completion(output)

    async def warm_up(self) -> float:
        """Runs a first batch, to trigger lazy initialisation; returns its seconds."""
        started_s, limits = time.monotonic(), self._config.rollout
        requests = [
            self.generate(
                request_id=f"warm-up/{i}",
                prompt_token_ids=[i] * min(WARM_UP_PROMPT, limits.max_prompt_tokens),
                max_tokens=min(WARM_UP_RESPONSE, limits.max_response_tokens),
                temperature=1.0,
                seed=i,
                stop_token_ids=[],
                deadline_s=limits.start_deadline_s,
            )
            for i in range(WARM_UP_REQUESTS)
        ]
        for outcome in await asyncio.gather(*requests):
            if isinstance(outcome, Failure):
                raise EngineFailed(f"warm-up: {outcome.message}", outcome.log)
        return time.monotonic() - started_s

    async def init_transfer(self, address: str, namespace: str, registry: str) -> None:
        """Connects every worker process to the weight registry. Raises `EngineFailed`."""
        info = {"address": address, "namespace": namespace, "registry": registry}
        request = WeightTransferInitRequest(init_info=info)
        await self._control(
            "joining the weight registry", self._llm.init_weight_transfer_engine(request)
        )

    async def update_weights(self, version: int) -> Mapping[str, float]:
        """Loads a published version in flight; returns seconds of pause, load and resume.

        Raises `EngineRefused` if the version cannot be fetched or its bytes are corrupt: the old
        weights stay in use. Raises `EngineFailed` otherwise: the engine serves no more requests,
        those in flight end in a failure, and `failure` holds the reason.
        """
        async with self._updating:
            if self.failure is not None:
                raise EngineFailed(self.failure.message, self.failure.log)
            try:
                return await self._update(version)
            except EngineRefused:
                raise
            except EngineFailed as error:
                await self._give_up(error)
                raise

    async def stop(self) -> None:
        """Stops the engine's processes."""
        await self._give_up(EngineFailed("the engine was stopped"))
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()  # or it reports the shutdown as a crash
        await _within(2 * STOP_S, "stop", asyncio.to_thread(self._llm.shutdown, STOP_S))

    async def _output(
        self, request_id: str, prompt_ids: Sequence[int], params: SamplingParams
    ) -> CompletionOutput:
        vocabulary = self._llm.model_config.get_vocab_size()
        if not all(0 <= token < vocabulary for token in prompt_ids):
            # Without a tokenizer vLLM does not check ids; an index error would end its process.
            raise ValueError(f"a token of the prompt is not among the model's {vocabulary}")
        prompt = tokens_input(list(prompt_ids), cache_salt=f"update {self._updates}")
        async with aclosing(self._llm.generate(prompt, params, request_id)) as outputs:
            return (await anext(outputs)).outputs[0]

    async def _update(self, version: int) -> Mapping[str, float]:
        llm = self._llm
        self._updates += 1
        marks_s = [time.monotonic()]
        await self._control("pause", llm.pause_generation(mode="keep", clear_cache=False))
        marks_s.append(time.monotonic())
        refusal = await self._load(version)
        marks_s.append(time.monotonic())
        await self._control("resume", llm.resume_generation())
        marks_s.append(time.monotonic())
        if refusal is not None:
            raise EngineRefused(f"{refusal}; version {self._version} stays in use", refusal.log)
        parts = zip(("pause_s", "load_s", "resume_s"), pairwise(marks_s), strict=True)
        return {name: end_s - start_s for name, (start_s, end_s) in parts}

    async def _load(self, version: int) -> EngineFailed | None:
        """Returns None, or the error if the version was refused before the model changed."""
        llm, deadline_s = self._llm, self._config.weights.deadline_s * FETCH_SHARE
        info = {"version": version, "deadline_s": deadline_s}
        await self._control("start of the update", llm.start_weight_update())
        fetching = llm.update_weights(WeightTransferUpdateRequest(update_info=info))
        try:
            await self._control("fetch", fetching)
        except EngineUnresponsive:
            raise
        except EngineFailed as error:
            # Other ranks may have loaded the version already, and vLLM cannot undo it.
            if self._config.rollout.tensor_parallel > 1:
                raise
            return error
        await self._control("load", llm.finish_weight_update(str(version)))
        self._version = version
        return None

    async def _control(self, what: str, call: Awaitable[T]) -> T:
        return await _within(self._config.weights.deadline_s, what, call)

    async def _give_up(self, reason: EngineFailed) -> None:
        """Ends the requests in flight on this side, in whatever state the processes are."""
        self._failure = self._failure or _failure(str(reason), reason.log)
        await self._control("abort", self._llm.abort(list(self._in_flight)))


def _completion(output: CompletionOutput) -> Completion:
    assert isinstance(output.logprobs, FlatLogprobs) and output.finish_reason is not None
    versions: list[int] = []
    for span in output.weight_versions or ():
        versions += [int(span.version)] * (span.end - span.start)
    return Completion(
        list(output.token_ids), list(output.logprobs.logprobs), versions, output.finish_reason
    )


def _failure(message: str, log: LogTail | None = None, permanent: bool = False) -> Failure:
    return Failure(FailureKind.ENGINE, WHERE, message, permanent, log)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


async def _within(deadline_s: float, what: str, call: Awaitable[T]) -> T:
    """Awaits a control call; vLLM reports its failures as a bare `Exception`."""
    try:
        async with asyncio.timeout(deadline_s):
            return await call
    except TimeoutError:
        message = f"{what}: no answer within {deadline_s:g} s"
        raise EngineUnresponsive(message, own_log().tail()) from None
    except Exception as error:
        raise EngineFailed(f"{what}: {_line(error)}", own_log().tail()) from error


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables within the block, then restores all, also those changed by vLLM."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
