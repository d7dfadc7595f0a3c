"""Checks of a configuration across its keys, independent of the machine."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from orchestra_ray.config.derived import BENCHMARKS, context_tokens, has_private_tasks
from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.plan.shape import model_shape
from orchestra_ray.config.ranges import LlmJudge, check_interval, check_ranges
from orchestra_ray.config.schema import Config


def check(config: Config) -> None:
    """Raises `BadValue` for the first value that is out of range or conflicts with another."""
    check_ranges(config)
    _check_name(config)
    _check_model(config)
    _check_tasks(config)
    _check_catalogue(config)
    _check_preferences(config)
    _check_reward(config)
    _check_cassette(config)
    _check_lengths(config)
    _check_staleness(config)
    _check_devices(config)


def _check_name(config: Config) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*", config.name):
        problem = f"{config.name!r} cannot be the name of a folder"
        raise BadValue("name", problem, "use letters, digits, dots, dashes and underscores")


def _check_model(config: Config) -> None:
    model = config.model
    if (model.path is None) == (model.tiny is None):
        if model.path is None:
            neither = "neither model.path nor model.tiny is given"
            raise BadValue("model", neither, "give one of them")
        remedy = "set model.tiny=null to take the folder, or leave model.path out"
        raise BadValue("model.path", "model.path and model.tiny are both given", remedy)
    for key, dims in (("model.tiny", model.tiny), ("model.shape", model.shape)):
        if dims is not None and dims.heads % dims.kv_heads:
            problem = f"{dims.heads} heads cannot share {dims.kv_heads} kv_heads"
            raise BadValue(f"{key}.kv_heads", problem, f"divide {key}.heads evenly")
    if model.tiny is not None and model.tiny.hidden_size % (2 * model.tiny.heads):
        problem = f"{model.tiny.heads} heads of even width do not fill {model.tiny.hidden_size}"
        raise BadValue("model.tiny.hidden_size", problem, "use a multiple of 2 x heads")
    if model.tiny is not None or model.shape is not None or Path(model.path or "").exists():
        _check_positions(model_shape(config).max_positions, context_tokens(config))


def _check_positions(max_positions: int | None, context: int) -> None:
    if max_positions is not None and context > max_positions:
        problem = f"prompt and response of {context} tokens pass the model's {max_positions}"
        raise BadValue("rollout.max_prompt_tokens", problem, "lower it or max_response_tokens")


def _check_tasks(config: Config) -> None:
    tasks = config.tasks
    if tasks.source == "reasoning_gym":
        _check_no_file(config)
    else:
        _check_file(config)
        if not tasks.families and config.model.tiny is None:
            return
        if not tasks.families:
            problem = "the warm start of model.tiny needs families for its demonstrations, and none"
            remedy = (
                "add [{name: chain_sum}], or start from a folder: model.tiny=null model.path=..."
            )
            raise BadValue("tasks.families", f"{problem} is given", remedy)
    if not tasks.families:
        raise BadValue("tasks.families", "no family of tasks", "add one: [{name: chain_sum}]")
    _unique("tasks.families", [family.name for family in tasks.families])
    first, second = sorted(
        [(tasks.train_seed, tasks.train_size), (tasks.heldout_seed, tasks.heldout_size)]
    )
    if first[0] + first[1] > second[0]:
        problem = "train and held-out tasks share seeds"
        raise BadValue("tasks.heldout_seed", problem, "move it past train_seed + train_size")
    held_out = tasks.heldout_size * len(tasks.families)
    if tasks.source == "reasoning_gym" and config.evaluation.tasks > held_out:
        problem = f"{config.evaluation.tasks} of {held_out} held-out tasks"
        raise BadValue("evaluation.tasks", problem, "lower it or raise tasks.heldout_size")


def _check_no_file(config: Config) -> None:
    for key in ("path", "heldout_path", "judge", "private"):
        if getattr(config.tasks, key):
            problem = f"reasoning_gym generates and grades its tasks, and has no {key}"
            raise BadValue(f"tasks.{key}", problem, "leave it out or choose another tasks.source")


def _check_file(config: Config) -> None:
    """Checks the settings of a file of tasks, which is not read."""
    tasks = config.tasks
    if tasks.path is None and tasks.heldout_path is None:
        raise BadValue("tasks.path", f"{tasks.source} reads a file", "name it")
    if has_private_tasks(tasks) and config.cassette.mode is not CassetteMode.LIVE:
        problem = f"{config.cassette.mode.value}, and the tasks are private"
        raise BadValue("cassette.mode", problem, "use live: a recording would contain them")
    judge = tasks.judge or (tasks.source if tasks.source in BENCHMARKS else None)
    if judge in get_args(LlmJudge) and config.judge.model is None:
        remedy = "name a model of the catalogue, or a tasks.judge without one, such as exact"
        raise BadValue("judge.model", f"the judge {judge} calls a model", remedy)


def _check_catalogue(config: Config) -> None:
    catalogue = config.catalogue
    if catalogue.models_min > catalogue.models_max:
        problem = f"{catalogue.models_min} is above models_max {catalogue.models_max}"
        raise BadValue("catalogue.models_min", problem, "lower it or raise models_max")
    for key in ("price_factors", "latency_factors"):
        factors: list[float] = getattr(catalogue, key)
        if not factors:
            raise BadValue(f"catalogue.{key}", "the list is empty", "write [1.0] for no change")
        for factor in factors:
            check_interval(f"catalogue.{key}", factor, "(0, inf)")


def _check_preferences(config: Config) -> None:
    preferences = config.catalogue.preferences
    if not preferences and config.catalogue.preferences_path is None:
        problem = "there are no preferences"
        raise BadValue("catalogue.preferences", problem, "add one with name and instruction")
    _unique("catalogue.preferences", [preference.name for preference in preferences])
    for i, preference in enumerate(preferences):
        weights = {name: getattr(preference, name) for name in ("outcome", "cost", "latency")}
        weights |= {f"tools.{name}": weight for name, weight in preference.tools.items()}
        for name, weight in weights.items():
            check_interval(f"catalogue.preferences[{i}].{name}", weight, "[0, 1]")
        check_interval(f"catalogue.preferences[{i}].share", preference.share, "[1, inf)")


def _check_reward(config: Config) -> None:
    if config.reward.preset == "budgeted" and config.reward.budget_usd is None:
        problem = "preset budgeted has no budget"
        raise BadValue("reward.budget_usd", problem, "set the mean dollars of an episode")


def _check_cassette(config: Config) -> None:
    cassette = config.cassette
    if cassette.path is None and cassette.mode not in (CassetteMode.LIVE, CassetteMode.RECORD):
        problem = f"{cassette.mode.value} needs a recording"
        raise BadValue("cassette.path", problem, "give the file that cassette.mode=record wrote")
    if cassette.path is not None and cassette.mode is CassetteMode.LIVE:
        problem = f"{cassette.path} is given, and the mode is live"
        raise BadValue("cassette.mode", problem, "choose record or a replay, or leave path out")


def _check_lengths(config: Config) -> None:
    context, microbatch = context_tokens(config), config.learner.tokens_per_microbatch
    if microbatch < context:
        problem = f"{microbatch} tokens do not hold one trajectory of {context}"
        remedy = f"raise it to {context} or lower rollout.max_prompt_tokens"
        raise BadValue("learner.tokens_per_microbatch", problem, remedy)
    if config.rollout.max_observation_tokens >= config.rollout.max_prompt_tokens:
        problem = f"a reply of {config.rollout.max_observation_tokens} tokens fills the prompt"
        remedy = f"give less than rollout.max_prompt_tokens {config.rollout.max_prompt_tokens}"
        raise BadValue("rollout.max_observation_tokens", problem, remedy)
    episodes = config.training.groups_per_step * config.training.group_size
    if config.learner.minibatches > episodes:
        problem = f"{config.learner.minibatches} minibatches of {episodes} episodes"
        raise BadValue("learner.minibatches", problem, f"give at most {episodes}")


def _check_staleness(config: Config) -> None:
    """Checks that off-policy training has a correction; without one its gradient is biased."""
    bound = config.training.max_staleness
    if bound > 0 and config.learner.loss.importance_cap is None:
        problem = f"{bound}, and nothing corrects for tokens of older weights"
        remedy = "set learner.loss.importance_cap, for instance to 2.0, or max_staleness to 0"
        raise BadValue("training.max_staleness", problem, remedy)


def _check_devices(config: Config) -> None:
    rollout, learner = config.rollout, config.learner
    if rollout.gpus_per_worker != rollout.tensor_parallel and (
        rollout.gpus_per_worker > 0 or rollout.tensor_parallel > 1
    ):
        problem = f"{rollout.tensor_parallel} on {rollout.gpus_per_worker} GPUs a worker"
        raise BadValue("rollout.tensor_parallel", problem, "set both to the same number")
    if config.model.attention == "flash_attention_2" and not learner.gpus_per_rank:
        problem = "flash_attention_2 needs learner GPUs"
        raise BadValue("model.attention", problem, "use sdpa, or set learner.gpus_per_rank=1")


def _unique(key: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BadValue(key, f"{name!r} is used twice", "give every entry its own name")
        seen.add(name)
