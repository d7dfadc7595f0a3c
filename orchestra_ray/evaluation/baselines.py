"""Who can play an evaluation, by name, and what each of them is given of a task.

policy               the model of the configuration (in a training run: before and after)
policy@N             the same with at most N turns
orchestrator:NAME    a model of the catalogue with an endpoint, with the same tools; so NAME@N
random, cheapest, strongest, oracle    a rule that asks one of the models on offer
expert:NAME          a rule that always asks this model, on offer or not
"""

import re
from collections.abc import Callable
from dataclasses import replace

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config, EvaluationConfig, ToolMode
from orchestra_ray.core.policy_names import EXPERT, ORCHESTRATOR
from orchestra_ray.core.records import GroupSpec, ToolsetSample
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.toolset import with_model, without_models

RATED = ("strongest", "oracle")  # rules that go by skill
RULES = ("random", "cheapest", *RATED)


def seat(group: GroupSpec, name: str, config: EvaluationConfig, catalogue: Catalogue) -> GroupSpec:
    """The group as this player gets it: tools by the mode of the evaluation, turns by the name."""
    policy, _, turns = name.partition("@")
    toolset = MODES[config.tools](group.toolset, catalogue)
    if policy.startswith(EXPERT):
        toolset = with_model(toolset, catalogue, policy.removeprefix(EXPERT))
    most = int(turns) if turns else group.max_turns
    return replace(group, policy=policy, toolset=toolset, max_turns=most)


MODES: dict[ToolMode, Callable[[ToolsetSample, Catalogue], ToolsetSample]] = {
    ToolMode.ALL: lambda toolset, catalogue: toolset,
    ToolMode.BASIC: without_models,
    ToolMode.NONE: lambda toolset, catalogue: replace(toolset, options=()),
}


def budgets(name: str, config: EvaluationConfig) -> list[str]:
    """The rows of the model `name`: as configured, and one for each turn budget."""
    return [name, *(f"{name}@{turns}" for turns in config.turn_budgets)]


def check_baselines(config: Config, catalogue: Catalogue) -> None:
    """`BadValue` where a baseline is nobody or has nothing to go by, or a turn budget has no turn.

    Where nothing is evaluated, nobody needs anything to go by.
    """
    if min(config.evaluation.turn_budgets, default=1) < 1:
        raise BadValue("evaluation.turn_budgets", "a budget has no turn", "give 1 or more")
    names = list(catalogue.models)
    asked = [name for name, entry in catalogue.models.items() if entry.backend == "endpoint"]
    known = {*RULES, *(EXPERT + name for name in names), *(ORCHESTRATOR + name for name in asked)}
    for name in config.evaluation.baselines:
        if name in RATED and config.evaluation.tasks and not _is_rated(catalogue):
            problem = f"{name!r} goes by skill, and no model on offer states one"
            raise BadValue(
                "evaluation.baselines", problem, f"leave {' and '.join(RATED)} out of them"
            )
        if name not in known and _unlimited(name) not in known:
            problem = f"{name!r} is unknown"
            remedy = f"choose from {', '.join(sorted(known))}"
            raise BadValue("evaluation.baselines", problem, remedy)


def _is_rated(catalogue: Catalogue) -> bool:
    """Whether a model that a rule can ask states a skill; whom it asks: see `rollout.policy`."""
    answering = [tool for tool in catalogue.offered_tools if tool.terminal]
    choices = [choice for tool in answering for choice in catalogue.choices_of(tool)]
    behind = [catalogue.models[choice.model] for choice in choices]
    return any(model.skill for model in catalogue.offered_models or behind)


def _unlimited(name: str) -> str:
    """An orchestrator's name without its turn budget; any other name as it is."""
    found = re.fullmatch(rf"({ORCHESTRATOR}.+)@[1-9][0-9]*", name, re.ASCII)
    return found[1] if found else name
