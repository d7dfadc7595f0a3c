"""vLLM's settings: environment of its processes, engine arguments, sampling parameters."""

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
    """Returns the environment variables to add for the engine's processes."""
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
            # Else the sampler compiles a helper at first use: takes 30 s and a C++ compiler.
            variables["TORCHDYNAMO_DISABLE"] = "1"
    return variables


def engine_args(config: Config, model_path: str, seed: int) -> AsyncEngineArgs:
    """Returns vLLM's arguments for a configuration."""
    rollout = config.rollout
    max_model_len = rollout.max_prompt_tokens + rollout.max_response_tokens
    device: dict[str, Any] = {"gpu_memory_utilization": rollout.gpu_memory_utilization}
    if rollout.gpus_per_worker == 0:
        device = {
            "kv_cache_memory_bytes": rollout.cpu_kv_cache_gib * 2**30,
            # On a CPU, vLLM 0.32 crashes if the prompt of a seeded request is split.
            "enable_chunked_prefill": False,
            # Episodes of a group share whole blocks of the prompt; vLLM's default here is 128.
            "block_size": 32,
            "max_num_batched_tokens": max(
                MIN_BATCHED_TOKENS, max_model_len + rollout.max_sequences
            ),
        }
        if rollout.tensor_parallel == 1:
            # Faster here than a worker process beside the engine core.
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
    """Returns parameters for tokens with log-probabilities, in one final output without text."""
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        stop_token_ids=list(stop_token_ids),
        ignore_eos=True,  # only `stop_token_ids` stop, not those of the model's folder
        detokenize=False,
        logprobs=0,  # of the sampled token only
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
