"""The plan: closed forms on Qwen3-8B, the ZeRO paper's figures, and monotone memory."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from orchestra_ray.config import ConfigError, load, make_plan, render
from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.learning import LearnerConfig
from orchestra_ray.config.plan.memory import GIB, activation_bytes, engine_memory, rank_memory
from orchestra_ray.config.plan.shape import folder_shape, model_shape, parameter_count
from orchestra_ray.config.schema import RolloutConfig, ShapeConfig

PAPER = Path(__file__).parents[3] / "configs/paper_qwen3_8b.yaml"
QWEN3_8B = ShapeConfig(
    layers=36,
    hidden_size=4_096,
    intermediate_size=12_288,
    heads=32,
    kv_heads=8,
    head_dim=128,
    vocab_size=151_936,
)
PARAMETERS = 8_190_735_360
STAGES = st.sampled_from(list(ZeroStage))
RANKS = st.integers(1, 64)


def states(stage: ZeroStage, parameters: int, ranks: int, **settings) -> int:
    learner = LearnerConfig(ranks=ranks, zero_stage=stage, **settings)
    memory = rank_memory(QWEN3_8B, parameters, learner, "bfloat16")
    return memory.weights + memory.gradients + memory.optimizer


def test_qwen3_8b_has_its_published_number_of_parameters():
    assert parameter_count(QWEN3_8B) == PARAMETERS


@pytest.mark.parametrize("tied", [True, False])
def test_the_count_is_that_of_the_model_that_transformers_builds(tmp_path, tied):
    config = Qwen3Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    config.save_pretrained(tmp_path)
    assert parameter_count(folder_shape(tmp_path)) == model.num_parameters()


def test_the_tiny_model_is_counted_from_its_specification(load_with):
    dims = "vocab_size: 1024, hidden_size: 128, intermediate_size: 384"
    config = load_with(f"model.tiny={{{dims}, layers: 4, heads: 4, kv_heads: 2}}")
    assert parameter_count(model_shape(config)) == 1_049_984


@pytest.mark.parametrize(
    ("stage", "gb"), [(ZeroStage.ONE, 31.4), (ZeroStage.TWO, 16.6), (ZeroStage.THREE, 1.9)]
)
def test_model_states_are_those_of_figure_1_of_the_zero_paper(stage, gb):
    assert states(stage, 7_500_000_000, 64) / 1e9 == pytest.approx(gb, abs=0.05)


@pytest.mark.parametrize("stage", ZeroStage)
def test_on_one_rank_every_stage_holds_sixteen_bytes_a_parameter(stage):
    assert states(stage, PARAMETERS, 1) == 16 * PARAMETERS


def test_offload_moves_optimizer_and_gradients_to_the_host():
    learner = LearnerConfig(ranks=8, zero_stage=ZeroStage.TWO, offload_optimizer=True)
    memory = rank_memory(QWEN3_8B, PARAMETERS, learner, "bfloat16")
    assert (memory.weights, memory.gradients, memory.optimizer) == (2 * PARAMETERS, 0, 0)
    assert memory.host == 16 * PARAMETERS // 8
    one = dataclasses.replace(learner, zero_stage=ZeroStage.ONE)
    assert rank_memory(QWEN3_8B, PARAMETERS, one, "bfloat16").gradients == 2 * PARAMETERS


def test_activations_of_qwen3_8b_in_closed_form():
    layer = 4 * (4_096 + (32 + 8) * 128 + 12_288)
    learner = LearnerConfig(tokens_per_microbatch=1_000)
    assert activation_bytes(QWEN3_8B, learner, size=2) == 2 * 1_000 * 36 * layer
    learner.gradient_checkpointing = True
    assert activation_bytes(QWEN3_8B, learner, size=2) == 2 * 1_000 * (36 * 4_096 + layer)


def test_logits_are_held_for_one_chunk_only():
    small, large = (
        rank_memory(QWEN3_8B, PARAMETERS, LearnerConfig(tokens_per_microbatch=t), "bfloat16").logits
        for t in (2_048, 32_768)
    )
    assert small == large == 1_024 * 151_936 * 12


@given(STAGES, RANKS, st.booleans(), st.booleans())
def test_a_rank_never_needs_more_memory_in_a_larger_group(stage, ranks, offload, checkpointing):
    learner = LearnerConfig(
        ranks=ranks,
        zero_stage=stage,
        offload_optimizer=offload,
        gradient_checkpointing=checkpointing,
    )
    larger = dataclasses.replace(learner, ranks=ranks + 1)
    few, many = (rank_memory(QWEN3_8B, PARAMETERS, x, "bfloat16") for x in (learner, larger))
    assert many.peak <= few.peak
    assert many.host <= few.host


@given(RANKS)
def test_states_shrink_with_the_stage(ranks):
    one, two, three = (states(stage, PARAMETERS, ranks) for stage in ZeroStage)
    assert one >= two >= three


@pytest.mark.parametrize(
    ("split", "kv_bytes"), [(1, 147_456), (2, 73_728), (8, 18_432), (16, 18_432)]
)
def test_keys_and_values_of_a_token_are_split_down_to_one_head(split, kv_bytes):
    rollout = RolloutConfig(gpus_per_worker=split, tensor_parallel=split)
    engine = engine_memory(QWEN3_8B, PARAMETERS, rollout, "bfloat16", gpu_memory_gib=80)
    assert engine.kv_per_token == kv_bytes
    assert engine.weights == -(-2 * PARAMETERS // split)
    free = int(0.85 * 80 * GIB) - engine.weights - 4 * GIB
    assert engine.kv_tokens == free // kv_bytes


@given(st.integers(1, 200), st.floats(0.05, 0.95))
def test_more_gpu_memory_never_holds_fewer_tokens(gib, utilization):
    rollout = RolloutConfig(gpus_per_worker=1, gpu_memory_utilization=utilization)
    less, more = (
        engine_memory(QWEN3_8B, PARAMETERS, rollout, "bfloat16", gib + extra) for extra in (0, 1)
    )
    assert 0 <= less.kv_tokens <= more.kv_tokens


def test_on_a_cpu_the_cache_has_the_size_that_the_configuration_gives():
    rollout = RolloutConfig(cpu_kv_cache_gib=3)
    engine = engine_memory(QWEN3_8B, PARAMETERS, rollout, "float32", gpu_memory_gib=80)
    assert engine.kv_tokens == 3 * GIB // (2 * 147_456)


def test_the_paper_s_run_is_the_paper_s(paper_config):
    training, rollout = paper_config.training, paper_config.rollout
    assert (training.groups_per_step, training.group_size) == (16, 8)
    assert (rollout.max_prompt_tokens, rollout.max_response_tokens) == (24_000, 8_000)
    assert (paper_config.learner.lr, rollout.max_turns) == (1e-6, 50)
    assert (paper_config.model.dtype, paper_config.reward.preset) == ("bfloat16", "paper")


def test_the_paper_s_run_fits_sixteen_gpus(paper_config):
    plan = make_plan(paper_config)
    assert plan.gpus == 16
    assert plan.parameters == PARAMETERS
    assert plan.problems == ()
    assert plan.step.episodes == 128
    assert plan.step.tokens == 128 * 32_000
    assert plan.step.weight_bytes == 2 * PARAMETERS
    assert plan.step.buckets == 31  # of 512 MiB
    assert plan.step.store_bytes == 128 * 32_000 * 13 + 2 * 2 * PARAMETERS


def test_staleness_keeps_more_trajectories_in_the_store(paper_config):
    training = dataclasses.replace(paper_config.training, max_staleness=2)
    config = dataclasses.replace(paper_config, training=training)
    assert make_plan(config).step.store_bytes == 3 * 128 * 32_000 * 13 + 2 * 2 * PARAMETERS


@pytest.mark.parametrize(
    ("overrides", "knob"),
    [
        (["learner.gradient_checkpointing=false"], "gradient_checkpointing"),
        (["rollout.gpu_memory_utilization=0.16"], "rollout.tensor_parallel"),
        (["cluster.address=null"], "cluster.object_store_mib to "),
    ],
)
def test_what_does_not_fit_is_said_with_what_to_change(overrides, knob):
    plan = make_plan(load([PAPER], overrides))
    assert len(plan.problems) == 1
    assert knob in plan.problems[0]
    assert "Does not fit" in render(plan)


def test_a_model_on_disk_is_planned_from_its_folder(load_with, tmp_path):
    folder = tmp_path / "model"
    Qwen3Config(num_hidden_layers=2, tie_word_embeddings=True).save_pretrained(folder)
    config = load_with("model.tiny=null", f"model.path={folder}")
    plan = make_plan(config)
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    assert layers == 2
    assert plan.parameters == parameter_count(folder_shape(folder))
    assert not any("model.shape" in line for line in plan.assumptions)


def test_a_model_of_unknown_dimensions_is_refused(load_with):
    config = load_with("model.tiny=null", "model.path=owner/absent")
    with pytest.raises(ConfigError, match="model.shape: the dimensions of owner/absent"):
        make_plan(config)


def test_a_given_number_of_parameters_is_taken_and_said(load_with):
    plan = make_plan(load_with("model.parameters=1000000"))
    assert plan.parameters == 1_000_000
    assert any("1000000" in line for line in plan.assumptions)


def test_the_text_has_bundles_memory_and_every_assumption(paper_config):
    plan = make_plan(paper_config)
    text = render(plan)
    for bundle in plan.bundles:
        assert bundle.role in text
    for line in plan.assumptions:
        assert line in text
    assert "81 CPUs, 16 GPUs, 8,190,735,360 parameters" in text
    assert "ZeRO-2 over 8 ranks, bfloat16, gradient checkpointing" in text
    assert "Does not fit" not in text
    assert all(len(line) <= 100 for line in text.splitlines())
