"""vLLM's AsyncLLM with tokens in, tokens out, and weights that change under way.

Invariants: what goes wrong with a request is a value, and no request outlives its deadline in the
engine; every control call has a deadline; each token carries the version of the weights that
sampled it.

An update pauses the engine, loads, and resumes; requests in flight stay where they are, keep the
KV that older weights computed, and go on under the new weights. `versions` are exact all the same:
the engine core stamps its outputs, and changes the stamp only while it is paused and no step is
under way. The prefix cache is not cleared, since vLLM can only clear it by recomputing every
request in flight. Instead each request's blocks are hashed with a salt that changes with every
update, so that a new request never finds KV of older weights.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMError
from vllm.inputs.engine import tokens_input
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from orchestra_ray.config.schema import Config
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.rollout.policy import Completion

T = TypeVar("T")
WHERE = "rollout engine"
MIN_BATCHED_TOKENS = 2048
FETCH_SHARE = 0.5  # of an update's deadline, so that the worker's own error comes before silence
STOP_S = 30.0
WARM_UP_REQUESTS, WARM_UP_PROMPT, WARM_UP_RESPONSE = 8, 64, 8


class EngineFailed(Exception):
    """A control call failed; one line that says which, why, and what the engine is good for."""


class Engine:
    """One vLLM engine in processes of its own. Made by `start`."""

    def __init__(self, llm: AsyncLLM, config: Config, version: int):
        self._llm, self._version = llm, version
        self._deadline_s = config.weights.deadline_s
        self._start_deadline_s = config.rollout.start_deadline_s
        self._ranks = config.rollout.tensor_parallel
        self._failure: Failure | None = None
        self._updates = 0
        self._updating = asyncio.Lock()

    @classmethod
    async def start(
        cls, config: Config, model_path: str, seed: int, version: int = 0
    ) -> "Engine":
        """An engine that serves the weights in `model_path` as `version`."""
        deadline_s = config.rollout.start_deadline_s
        with _environment(environment(config)):
            args = engine_args(config, model_path, seed)
            llm = await _within(
                deadline_s, "start", asyncio.to_thread(AsyncLLM.from_engine_args, args)
            )
        engine = cls(llm, config, version)
        await _within(deadline_s, "start", llm.update_weight_version(str(version)))
        return engine

    @property
    def version(self) -> int:
        """The version that samples the next token."""
        return self._version

    @property
    def failure(self) -> Failure | None:
        """Why the engine has to be replaced; None while it serves."""
        if self._failure is None and self._llm.errored:
            self._failure = _failure("the engine's process is gone")
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

        Log-probabilities are those of the distribution that was sampled from, with temperature; at
        temperature 0 those of the distribution at temperature 1.
        """
        if self.failure is not None:
            return self.failure
        try:
            params = SamplingParams(
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                stop_token_ids=list(stop_token_ids),
                ignore_eos=True,  # only `stop_token_ids` stop, whatever the model's folder says
                detokenize=False,
                logprobs=0,  # of the sampled token alone
                flat_logprobs=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            async with asyncio.timeout(deadline_s):
                output = await self._output(request_id, list(prompt_token_ids), params)
        except TimeoutError:
            message = f"request {request_id} ran past {deadline_s:g} s"
            return Failure(FailureKind.DEADLINE, WHERE, message)
        except (VLLMError, ValueError) as error:
            return _failure(f"request {request_id}: {_line(error)}")
        if output.finish_reason not in ("stop", "length"):
            return self.failure or _failure(f"request {request_id}: {output.finish_reason}")
        return _completion(output)

    async def warm_up(self) -> float:
        """Seconds of a first batch, which pays for what is made on first use."""
        started_s = time.monotonic()
        requests = [
            self.generate(
                request_id=f"warm-up/{i}",
                prompt_token_ids=[i] * WARM_UP_PROMPT,
                max_tokens=WARM_UP_RESPONSE,
                temperature=1.0,
                seed=i,
                stop_token_ids=[],
                deadline_s=self._start_deadline_s,
            )
            for i in range(WARM_UP_REQUESTS)
        ]
        for outcome in await asyncio.gather(*requests):
            if isinstance(outcome, Failure):
                raise EngineFailed(f"warm-up: {outcome.message}")
        return time.monotonic() - started_s

    async def init_transfer(self, address: str, namespace: str, board: str) -> None:
        """Joins the board of weights from every worker process of the engine."""
        info = {"address": address, "namespace": namespace, "board": board}
        request = WeightTransferInitRequest(init_info=info)
        await self._control("join the weights", self._llm.init_weight_transfer_engine(request))

    async def update_weights(self, version: int) -> Mapping[str, float]:
        """Loads a published version with requests in flight; seconds of pause, load and resume.

        Raises `EngineFailed`. Where the version could not be fetched or its bytes are corrupt, the
        old weights serve on and `failure` stays None; after any other error nothing is served any
        more, requests in flight end in a failure, and `failure` says why.
        """
        async with self._updating:
            if self.failure is not None:
                raise EngineFailed(self.failure.message)
            marks_s = [time.monotonic()]
            self._updates += 1
            await self._fatal("pause", self._llm.pause_generation(mode="keep", clear_cache=False))
            marks_s.append(time.monotonic())
            refused = await self._load(version)
            marks_s.append(time.monotonic())
            await self._fatal("resume", self._llm.resume_generation())
            marks_s.append(time.monotonic())
            if refused is not None:
                raise EngineFailed(f"{refused}; version {self._version} serves on")
            parts = zip(("pause_s", "load_s", "resume_s"), marks_s[1:], marks_s, strict=False)
            return {name: end_s - start_s for name, end_s, start_s in parts}

    async def stop(self) -> None:
        """Ends the engine's processes."""
        self._failure = _failure("the engine was stopped")
        shutdown = asyncio.to_thread(self._llm.shutdown, STOP_S)
        await _within(2 * STOP_S, "stop", shutdown)

    async def _output(
        self, request_id: str, prompt_ids: list[int], params: SamplingParams
    ) -> CompletionOutput:
        prompt = tokens_input(prompt_ids, cache_salt=f"update {self._updates}")
        async with aclosing(self._llm.generate(prompt, params, request_id)) as outputs:
            async for output in outputs:
                if output.finished:
                    return output.outputs[0]
        raise ValueError("no final output")

    async def _load(self, version: int) -> str | None:
        """None, or why the version was refused with the model untouched."""
        info = {"version": version, "deadline_s": self._deadline_s * FETCH_SHARE}
        request = WeightTransferUpdateRequest(update_info=info)
        await self._fatal("start of a weight update", self._llm.start_weight_update())
        try:
            await self._control("fetch of weights", self._llm.update_weights(request))
        except EngineFailed as error:
            return str(error)
        await self._fatal("load of weights", self._llm.finish_weight_update(str(version)))
        self._version = version
        return None

    async def _control(self, what: str, call: Awaitable[T]) -> T:
        return await _within(self._deadline_s, what, call)

    async def _fatal(self, what: str, call: Awaitable[T]) -> T:
        ...
