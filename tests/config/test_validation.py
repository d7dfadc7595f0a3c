"""Ranges, cross-field checks, and checks of the place where a run starts."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config import Config, ConfigError
from orchestra_ray.config.derived import cassette_of
from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.plan.bundles import bundles
from orchestra_ray.config.ranges import check_interval
from orchestra_ray.config.start_checks import (
    check_model_reachable,
    check_port,
    check_recording,
    check_resources,
    check_run_folder,
)

QWEN3_8B = {
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "max_position_embeddings": 40960,
}


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("name=a/b", "name"),
        ("name=..", "name"),
        ("model.input_usd_per_mtok=-0.1", "model.input_usd_per_mtok"),
        ("model.output_usd_per_mtok=-0.1", "model.output_usd_per_mtok"),
        ("model.dtype=int4", "model.dtype"),
        ("model.chat_template=none", "model.chat_template"),
        ("model.tool_parser=none", "model.tool_parser"),
        ("model.attention=flash_attention_2", "model.attention"),
        ("model.path=owner/name", "model.path"),
        ("model.tiny=null", "model"),
        ("model.tiny={heads: 4, kv_heads: 3}", "model.tiny.kv_heads"),
        ("model.tiny={hidden_size: 100, heads: 4, kv_heads: 2}", "model.tiny.hidden_size"),
        ("model.tiny.vocab_size=10", "model.tiny.vocab_size"),
        ("tasks.families=[]", "tasks.families"),
        ("tasks.families=[{name: gcd}, {name: gcd}]", "tasks.families"),
        ("tasks.source=none", "tasks.source"),
        ("tasks.heldout_seed=99999", "tasks.heldout_seed"),
        ("evaluation.tasks=1001", "evaluation.tasks"),
        ("catalogue.models_min=7", "catalogue.models_min"),
        ("catalogue.price_factors=[1, 0]", "catalogue.price_factors"),
        ("catalogue.price_factors=[]", "catalogue.price_factors"),
        ("catalogue.latency_factors=[-1]", "catalogue.latency_factors"),
        ("catalogue.preferences=[]", "catalogue.preferences"),
        (
            "catalogue.preferences=[{name: a, instruction: b}, {name: a, instruction: c}]",
            "catalogue.preferences",
        ),
        (
            "catalogue.preferences=[{name: a, instruction: b, tools: {x: -0.5}}]",
            "catalogue.preferences[0].tools.x",
        ),
        (
            "catalogue.preferences=[{name: a, instruction: b, share: 0}]",
            "catalogue.preferences[0].share",
        ),
        ("rollout.workers=0", "rollout.workers"),
        ("rollout.temperature=0", "rollout.temperature"),
        ("rollout.tensor_parallel=2", "rollout.tensor_parallel"),
        ("rollout.max_prompt_tokens=2000", "rollout.max_prompt_tokens"),
        ("rollout.max_observation_tokens=800", "rollout.max_observation_tokens"),
        ("rollout.episode_deadline_s=0", "rollout.episode_deadline_s"),
        ("tools.actors=-1", "tools.actors"),
        ("tools.start_deadline_s=-1", "tools.start_deadline_s"),
        ("reward.preset=none", "reward.preset"),
        ("learner.lr=.nan", "learner.lr"),
        ("learner.lr=.inf", "learner.lr"),
        ("learner.beta2=1", "learner.beta2"),
        ("learner.adam_eps=0", "learner.adam_eps"),
        ("learner.lr_warmup_steps=-1", "learner.lr_warmup_steps"),
        ("learner.lr_final=1.1", "learner.lr_final"),
        ("learner.minibatches=129", "learner.minibatches"),
        ("learner.tokens_per_microbatch=863", "learner.tokens_per_microbatch"),
        ("learner.loss.clip_low=1", "learner.loss.clip_low"),
        ("learner.loss.dual_clip=1", "learner.loss.dual_clip"),
        ("weights.backend=none", "weights.backend"),
        ("weights.backend=nccl", "weights.backend"),
        ("training.steps=0", "training.steps"),
        ("training.group_size=1", "training.group_size"),
        ("training.max_staleness=-1", "training.max_staleness"),
        ("training.max_staleness=1", "training.max_staleness"),
        ("cluster.dashboard_port=65536", "cluster.dashboard_port"),
        ("cluster.object_store_mib=1", "cluster.object_store_mib"),
    ],
)
def test_a_bad_value_is_refused_under_its_key(load_with, override, key):
    with pytest.raises(ConfigError) as caught:
        load_with(override)
    assert f": {key}: " in f": {caught.value}"


@pytest.mark.parametrize(
    "override",
    [
        "learner.tokens_per_microbatch=864",
        "learner.minibatches=128",
        "evaluation.tasks=1000",
        "tasks.heldout_seed=100000",
        "rollout.max_prompt_tokens=1984",
        "learner.beta1=0",
    ],
)
def test_the_ends_of_a_range_are_taken(load_with, override):
    load_with(override)


@pytest.mark.parametrize("minibatches", [1, 4])
def test_training_on_older_weights_needs_a_correction_however_many_minibatches(
    load_with, minibatches
):
    asynchronous = ["training.max_staleness=2", f"learner.minibatches={minibatches}"]
    with pytest.raises(ConfigError, match="set learner.loss.importance_cap"):
        load_with(*asynchronous)
    load_with(*asynchronous, "learner.loss.importance_cap=2.0")


def test_tasks_of_a_file_need_families_for_the_warm_start_and_the_line_says_so(load_with):
    with pytest.raises(ConfigError, match="tasks.families: the warm start of model.tiny"):
        load_with("tasks.source=gsm8k", "tasks.path=tests/samples/gsm8k.jsonl", "tasks.families=[]")


@given(st.floats())
def test_a_weight_is_taken_exactly_inside_the_unit_interval(weight):
    try:
        check_interval("cost", weight, "[0, 1]")
    except BadValue:
        assert not 0 <= weight <= 1
    else:
        assert 0 <= weight <= 1


def test_flash_attention_is_taken_with_gpus(load_with):
    load_with(
        "model.attention=flash_attention_2",
        "rollout.gpus_per_worker=1",
        "learner.gpus_per_rank=1",
    )


def test_a_local_model_must_be_there_with_its_configuration(load_with, tmp_path):
    def with_model(path):
        return load_with("model.tiny=null", f"model.path={path}")

    for absent in (tmp_path / "absent", "./absent", "~/absent-model", "a/b/c"):
        with pytest.raises(ConfigError, match="model.path: .*absent|model.path: a/b/c"):
            with_model(absent)
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ConfigError, match="model.path: .*config.json cannot be read"):
        with_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="model.path: .*config.json is no configuration"):
        with_model(folder)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 1}))
    with pytest.raises(ConfigError, match="model.path: .*config.json has no num_attention_heads"):
        with_model(folder)
    (folder / "config.json").write_text(json.dumps(QWEN3_8B))
    assert with_model(folder).model.path == str(folder)
    (folder / "config.json").write_text(json.dumps({**QWEN3_8B, "max_position_embeddings": 863}))
    with pytest.raises(ConfigError, match="864 tokens pass the model's 863"):
        with_model(folder)


def test_a_hub_name_is_taken_but_a_run_needs_the_model(load_with, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = load_with("model.tiny=null", "model.path=owner/absent")
    assert config.model.path == "owner/absent"
    with pytest.raises(ConfigError, match="owner/absent is no folder here.*OfflineMode"):
        check_model_reachable(config)


def test_a_run_folder_that_exists_is_refused(load_with, tmp_path):
    config = load_with(f"runs_dir={tmp_path}/runs")
    check_run_folder(config)
    (tmp_path / "runs" / "small").mkdir(parents=True)
    with pytest.raises(ConfigError, match="runs/small exists; choose another name"):
        check_run_folder(config)


def test_a_port_in_use_is_refused_and_a_free_one_taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cluster.dashboard_port: port {port}: "):
            check_port(port)
    check_port(port)
    check_port(None)


def test_resources_are_compared_with_the_sum_of_the_bundles(load_with):
    config = load_with(
        "rollout.workers=3", "rollout.cpus_per_worker=4", "tools.actors=10", "reward.cpus=0.1"
    )
    needed = sum(bundle.all_cpus for bundle in bundles(config))
    assert needed == pytest.approx(3 * 4 + 10 * 0.25 + 0.1 + 2 * 0.5)
    check_resources(config, cpus=15.6, gpus=0)
    with pytest.raises(ConfigError) as caught:
        check_resources(config, cpus=15.5, gpus=0)
    assert str(caught.value) == (
        "rollout.workers: the run needs 15.6 CPUs, the cluster has 15.5;"
        " lower rollout.workers (3 x 4 CPU for each rollout worker)"
    )


def test_gpus_are_compared_where_their_number_is_known(paper_config):
    check_resources(paper_config, cpus=1_000, gpus=16)
    check_resources(paper_config, cpus=1_000)
    with pytest.raises(ConfigError, match="needs 16 GPUs, the cluster has 15; lower learner.ranks"):
        check_resources(paper_config, cpus=1_000, gpus=15)


@pytest.mark.parametrize("mode", [mode.value for mode in CassetteMode])
def test_a_replay_names_its_recording_and_is_refused_without_it(
    load_with: Callable[..., Config], tmp_path: Path, mode: str
) -> None:
    given, override = f"cassette.path={tmp_path}/tape", f"cassette.mode={mode}"
    if mode == "live":
        with pytest.raises(ConfigError, match="cassette.mode: .* the mode is live"):
            load_with(override, given)
    elif mode != "record":
        with pytest.raises(ConfigError, match=f"cassette.path: {mode} needs a recording"):
            load_with(override)
    else:
        default = cassette_of(load_with(override, f"runs_dir={tmp_path}"))
        assert default.path == f"{tmp_path}/small/cassette.sqlite"
    config = load_with(override, given) if mode != "live" else load_with()
    if mode.startswith("replay") and mode != "replay_or_live":
        with pytest.raises(
            BadValue, match="no such recording; record it with cassette.mode=record"
        ):
            check_recording(config)
    else:
        check_recording(config)


def test_the_folder_of_a_run_or_a_checkpoint_names_the_policy_in_it(load_with, tmp_path):
    policy = tmp_path / "mine" / "checkpoints" / "step_3" / "policy"
    policy.mkdir(parents=True)
    (policy / "config.json").write_text(json.dumps(QWEN3_8B))
    for folder in (tmp_path / "mine", policy.parent):
        with pytest.raises(ConfigError, match=f"did you mean {policy}"):
            load_with("model.tiny=null", f"model.path={folder}")
    load_with("model.tiny=null", f"model.path={policy}")
