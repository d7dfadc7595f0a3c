"""Checks across keys, and checks of the place where a run is to start. No Ray.

`check` holds for every use of a configuration. `check_start` is for a command that is about to
start a run here: the folder, the port, the model and the processors.
"""

import json
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.model_folder import not_from_hub
from orchestra_ray.config.plan.bundles import Bundle, bundles
from orchestra_ray.config.plan.shape import model_shape
from orchestra_ray.config.ranges import LlmJudge, check_interval, check_ranges
from orchestra_ray.config.schema import CassetteConfig, CassetteMode, Config, Overlong, TasksConfig

HUB_DEADLINE_S = 10.0
MAY_CHANGE = ("cluster", "tracking", "runs_dir", "cassette", "spend")  # when a run goes on
BENCHMARKS = {"frames", "hle"}  # whose tasks are only ever held out, and have judges of their own


def check(config: Config) -> None:
    """`BadValue` for the first mistake in the values themselves."""
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


def check_start(config: Config, resume: bool = False) -> None:
    """`BadValue` where the run cannot start here: folder, recording, port, model, processors."""
    if resume:
        check_same_run(config)
    else:
        check_run_folder(config)
    check_recording(config)
    check_model_reachable(config)
    if config.cluster.address is None:
        check_port(config.cluster.dashboard_port)
        check_resources(config, config.cluster.cpus or os.cpu_count() or 1)


def run_folder(config: Config) -> Path:
    return Path(config.runs_dir).expanduser() / config.name


def cassette_of(config: Config) -> CassetteConfig:
    """The cassette with the place of its file, as every process of the machine finds it."""
    given, folder = config.cassette.path, run_folder(config)
    path = folder / "cassette.sqlite" if given is None else Path(given).expanduser()
    return replace(config.cassette, path=str(path.absolute()))


def recorded(config: Config) -> Config:
    """With a recording of an evaluation's calls, where it can have one and none is asked for.

    So that one that goes on pays for no call again, not even of the episodes that were cut short.
    """
    cassette, one_machine = config.cassette, config.cluster.address is None
    if cassette.mode is not CassetteMode.LIVE or not one_machine or is_private(config.tasks):
        return config
    return replace(config, cassette=replace(cassette, mode=CassetteMode.RECORD))


def overlong_of(config: Config) -> tuple[int, int] | None:
    """(cap, margin) in tokens of a response, where long ones lose reward."""
    if config.training.overlong is not Overlong.PENALISE:
        return None
    cap = config.rollout.max_response_tokens
    return cap, max(1, round(cap * config.training.overlong_margin))


def context_tokens(config: Config) -> int:
    """The longest trajectory: a prompt at its limit and one more response."""
    return config.rollout.max_prompt_tokens + config.rollout.max_response_tokens


def check_run_folder(config: Config) -> None:
    """A run never writes into the folder of another."""
    folder = run_folder(config)
    if folder.exists():
        raise BadValue("name", f"the run folder {folder} exists", "choose another name or move it")


def check_same_run(config: Config) -> None:
    """A run goes on only as what it was: where and how it runs and is watched may be another."""
    file = run_folder(config) / "config.yaml"
    if not file.is_file():
        raise BadValue("name", f"there is no run to go on with in {file.parent}", "drop --resume")
    was = yaml.safe_load(file.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(asdict(config)))
    same = [section for section in now if section not in MAY_CHANGE]
    other = difference({key: was.get(key) for key in same}, {key: now[key] for key in same})
    if other is not None:
        problem = f"the run in {file.parent} was made with {other[1]}"
        raise BadValue(other[0], problem, "give that, or choose another name")


def difference(was: Any, now: Any, key: str = "") -> tuple[str, str] | None:
    """The first dotted key below `key` whose value differs, and the value that it had, as JSON."""
    if not (isinstance(was, dict) and isinstance(now, dict)):
        return None if was == now else (key, json.dumps(was))
    found = (
        difference(was.get(name), now.get(name), f"{key}.{name}" if key else name)
        for name in {**was, **now}
    )
    return next(filter(None, found), None)


def check_recording(config: Config) -> None:
    """What only plays needs its file; one that records as well makes it."""
    path = Path(str(cassette_of(config).path))
    if not config.cassette.mode.calls and not path.is_file():
        problem = f"{path}: no such recording"
        raise BadValue("cassette.path", problem, "record it with cassette.mode=record")


def check_port(port: int | None) -> None:
    """`BadValue` where the dashboard's port on this machine is taken."""
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            key, reason = "cluster.dashboard_port", os.strerror(error.errno or 0)
            raise BadValue(key, f"port {port}: {reason}", "choose a free port or null") from None


def check_resources(config: Config, cpus: float, gpus: float | None = None) -> None:
    """`BadValue` where the bundles ask for more than there is. `gpus` of None: not known yet."""
    needs = bundles(config)
    _enough("CPU", sum(b.all_cpus for b in needs), cpus, max(needs, key=lambda b: b.all_cpus))
    if gpus is not None:
        _enough("GPU", sum(b.all_gpus for b in needs), gpus, max(needs, key=lambda b: b.all_gpus))


def check_model_reachable(config: Config) -> None:
    """A model that is no folder must be in the hub's cache, or on the hub and the hub reachable."""
    path = config.model.path
    if path is None or Path(path).is_dir():
        return
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(path, "config.json"), str):
            HfApi().model_info(path, timeout=HUB_DEADLINE_S)
    except Exception as error:  # whatever the HTTP library under the hub's client raises
        raise not_from_hub(path, error) from None


def _enough(kind: str, needed: float, available: float, largest: Bundle) -> None:
    if round(needed, 4) <= available:  # Ray counts ten-thousandths
        return
    each = largest.cpus if kind == "CPU" else largest.gpus
    problem = f"the run needs {needed:g} {kind}s, the cluster has {available:g}"
    largest_use = f"{largest.count} x {each:g} {kind} for each {largest.role}"
    raise BadValue(largest.knob, problem, f"lower {largest.knob} ({largest_use})")


def _check_name(config: Config) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*", config.name):
        problem = f"{config.name!r} cannot name a folder"
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
            problem = "the warm start of model.tiny makes its demonstrations from these, and none"
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
            problem = f"reasoning_gym makes its tasks and scores them, and has no {key}"
            raise BadValue(f"tasks.{key}", problem, "leave it out or choose another tasks.source")


def _check_file(config: Config) -> None:
    """What can be said of a file of tasks before it is read."""
    tasks = config.tasks
    if tasks.path is None and tasks.heldout_path is None:
        raise BadValue("tasks.path", f"{tasks.source} reads a file", "name it")
    if is_private(tasks) and config.cassette.mode is not CassetteMode.LIVE:
        problem = f"{config.cassette.mode.value}, and the tasks are private"
        raise BadValue("cassette.mode", problem, "use live: no file may hold what is said of them")
    judge = tasks.judge or (tasks.source if tasks.source in BENCHMARKS else None)
    if judge in get_args(LlmJudge) and config.judge.model is None:
        remedy = "name a model of the catalogue, or a tasks.judge without one, such as exact"
        raise BadValue("judge.model", f"the judge {judge} asks a model", remedy)


def is_private(tasks: TasksConfig) -> bool:
    """Whether no file of a run may hold what the tasks say."""
    return tasks.private or tasks.source == "hle"


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
        problem = "no preference for a task to have"
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
        raise BadValue("cassette.path", problem, "name the file that cassette.mode=record made")
    if cassette.path is not None and cassette.mode is CassetteMode.LIVE:
        problem = f"{cassette.path} is named, and the mode is live"
        raise BadValue("cassette.mode", problem, "choose record or a replay, or leave path out")


def _check_lengths(config: Config) -> None:
    context, microbatch = context_tokens(config), config.learner.tokens_per_microbatch
    if microbatch < context:
        problem = f"{microbatch} tokens do not hold one trajectory of {context}"
        remedy = f"raise it to {context} or lower rollout.max_prompt_tokens"
        raise BadValue("learner.tokens_per_microbatch", problem, remedy)
    if config.rollout.max_observation_tokens >= config.rollout.max_prompt_tokens:
        problem = f"an answer of {config.rollout.max_observation_tokens} tokens fills the prompt"
        remedy = f"give less than rollout.max_prompt_tokens {config.rollout.max_prompt_tokens}"
        raise BadValue("rollout.max_observation_tokens", problem, remedy)
    episodes = config.training.groups_per_step * config.training.group_size
    if config.learner.minibatches > episodes:
        problem = f"{config.learner.minibatches} minibatches of {episodes} episodes"
        raise BadValue("learner.minibatches", problem, f"give at most {episodes}")


def _check_staleness(config: Config) -> None:
    """Without a correction the gradient takes what older weights sampled for the policy's own."""
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
            raise BadValue(key, f"{name!r} stands twice", "give every entry a name of its own")
        seen.add(name)
