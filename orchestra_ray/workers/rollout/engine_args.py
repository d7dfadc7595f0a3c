"""What vLLM is told: the environment of its processes, its arguments, and a request's sampling."""

from collections.abc import Sequence
from typing import Any, cast

from vllm.config.model import ModelDType
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from orchestra_ray.config.schema import Config

MIN_BATCHED_TOKENS = 2048


def environment(config: Config) -> dict[str, str]:
    """What the engine's processes find in their environment, beside what this one has."""
    rollout = config.rollout
    variables = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if rollout.gpus_per_worker == 0:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        variables["OMP_NUM_THREADS"] = str(max(1, int(rollout.cpus_per_worker)))
        if rollout.enforce_eager:
            # Else the sampler compiles a helper at first use: half a minute, and a C++ compiler.
            variables["TORCHDYNAMO_DISABLE"] = "1"
    return variables


def engine_args(config: Config, model_path: str, seed: int) -> AsyncEngineArgs:
    """vLLM's arguments for this configuration."""
    rollout = config.rollout
    max_model_len = rollout.max_prompt_tokens + rollout.max_response_tokens
    device: dict[str, Any] = {"gpu_memory_utilization": rollout.gpu_memory_utilization}
    if rollout.gpus_per_worker == 0:
        device = {
            "kv_cache_memory_bytes": rollout.cpu_kv_cache_gib * 2**30,
            # vLLM 0.32 dies on a CPU where the prompt of a request with a seed is split.
            "enable_chunked_prefill": False,
            # Episodes of a group share their prompt in whole blocks; vLLM's own size is 128 here.
            "block_size": 32,
            "max_num_batched_tokens": max(
                MIN_BATCHED_TOKENS, max_model_len + rollout.max_sequences
            ),
        }
        if rollout.tensor_parallel == 1:
            # Faster here than the worker process that vLLM would start beside the engine core.
            device["distributed_executor_backend"] = UniProcExecutor
    return AsyncEngineArgs(
        model=model_path,
        skip_tokenizer_init=True,
        generation_config="vllm",
        dtype=cast(ModelDType, config.model.dtype),
        seed=seed,
        tensor_parallel_size=rollout.tensor_parallel,
        max_num_seqs=rollout.max_sequences,
        max_model_len=max_model_len,
        enforce_eager=rollout.enforce_eager,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",
        weight_transfer_config=WeightTransferConfig(backend=config.weights.backend),
        disable_log_stats=True,
        use_tqdm_on_load=False,
        log_level="WARNING",
        **device,
    )


def sampling(
    max_tokens: int, temperature: float, seed: int, stop_token_ids: Sequence[int]
) -> SamplingParams:
    """Tokens and their log-probabilities at the end, no text."""
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        stop_token_ids=list(stop_token_ids),
        ignore_eos=True,  # `stop_token_ids` alone stop, whatever the model's folder says
        detokenize=False,
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
