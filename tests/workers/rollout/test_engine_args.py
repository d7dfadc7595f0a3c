from dataclasses import replace

import pytest

from orchestra_ray.config import Config
from orchestra_ray.workers.rollout.engine_args import engine_args, environment, sampling


def with_rollout(config: Config, **changes: object) -> Config:
    return replace(config, rollout=replace(config.rollout, **changes))


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, "1"), (1.0, "1"), (3.0, "3")])
def test_an_engine_on_cpus_has_as_many_threads_as_its_worker_has_cpus(
    quickstart: Config, cpus: float, threads: str
) -> None:
    variables = environment(with_rollout(quickstart, cpus_per_worker=cpus))
    assert variables["OMP_NUM_THREADS"] == threads


def test_only_an_eager_engine_on_cpus_goes_without_compiling(quickstart: Config) -> None:
    for gpus in (0, 1):
        for eager in (False, True):
            config = with_rollout(quickstart, gpus_per_worker=gpus, enforce_eager=eager)
            assert ("TORCHDYNAMO_DISABLE" in environment(config)) == (gpus == 0 and eager)


def test_a_step_takes_the_longest_prompt_beside_a_full_batch_of_decodes(quickstart: Config) -> None:
    config = with_rollout(quickstart, max_prompt_tokens=5000, max_response_tokens=700)
    args = engine_args(config, "model", seed=3)
    assert args.max_model_len == 5700
    assert args.max_num_batched_tokens == 5700 + config.rollout.max_sequences
    assert args.enable_chunked_prefill is False


def test_an_engine_on_gpus_keeps_vllms_own_choices(quickstart: Config) -> None:
    config = with_rollout(
        quickstart, gpus_per_worker=2, tensor_parallel=2, gpu_memory_utilization=0.7
    )
    args = engine_args(config, "model", seed=3)
    assert (args.tensor_parallel_size, args.gpu_memory_utilization) == (2, 0.7)
    assert args.enable_chunked_prefill is None
    assert args.kv_cache_memory_bytes is None
    assert args.distributed_executor_backend is None


def test_log_probabilities_are_asked_for_after_temperature(quickstart: Config) -> None:
    assert engine_args(quickstart, "model", seed=3).logprobs_mode == "processed_logprobs"
    params = sampling(max_tokens=5, temperature=0.7, seed=1, stop_token_ids=[2])
    assert (params.logprobs, params.temperature, params.stop_token_ids) == (0, 0.7, [2])
