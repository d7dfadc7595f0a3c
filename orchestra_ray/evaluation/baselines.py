"""The policies of an evaluation, by name, and the toolset and turn limit that each one gets.

policy               the model of the configuration (in a training run: before and after)
policy@N             the same model with at most N turns
orchestrator:NAME    a model of the catalogue with an endpoint, with the same tools; or NAME@N
random, cheapest, strongest, oracle    a rule that calls one of the models on offer
expert:NAME          a rule that always calls this model, on offer or not
"""

import re
from collections.abc import Callable
from dataclasses import replace

from orchestra_ray.config.enums import ToolMode
from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config, EvaluationConfig
from orchestra_ray.core.policy_names import EXPERT, ORCHESTRATOR
from orchestra_ray.core.records import GroupSpec, ToolsetSample
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.toolset import with_model, without_models

RATED = ("strongest", "oracle")  # rules that rank models by skill
RULES = ("random", "cheapest", *RATED)


def group_for_policy(
    group: GroupSpec, name: str, config: EvaluationConfig, catalogue: Catalogue
) -> GroupSpec:
    """Returns the group for this policy: tools by the evaluation's mode, turns by the name."""
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
    """Returns the rows of the model `name`: as configured, and one for each turn budget."""
    return [name, *(f"{name}@{turns}" for turns in config.turn_budgets)]


def check_baselines(config: Config, catalogue: Catalogue) -> None:
    """Raises BadValue if a baseline is unknown or ranks by a skill that no model states, or if a
    turn budget is below 1. Skills are needed only if tasks are evaluated.
    """
    if min(config.evaluation.turn_budgets, default=1) < 1:
        raise BadValue("evaluation.turn_budgets", "a budget has no turn", "give 1 or more")
    names = list(catalogue.models)
    remote = [name for name, entry in catalogue.models.items() if entry.backend == "endpoint"]
    known = {*RULES, *(EXPERT + name for name in names), *(ORCHESTRATOR + name for name in remote)}
    for name in config.evaluation.baselines:
        if name in RATED and config.evaluation.tasks and not _is_rated(catalogue):
            problem = f"{name!r} ranks models by skill, and no model on offer states one"
            raise BadValue(
                "evaluation.baselines", problem, f"leave {' and '.join(RATED)} out of them"
            )
        if name not in known and _unlimited(name) not in known:
            problem = f"{name!r} is unknown"
            remedy = f"choose from {', '.join(sorted(known))}"
            raise BadValue("evaluation.baselines", problem, remedy)


def _is_rated(catalogue: Catalogue) -> bool:
    """Returns whether any model that a rule can call states a skill (see `rollout.policies`)."""
    answering = [tool for tool in catalogue.offered_tools if tool.terminal]
    choices = [choice for tool in answering for choice in catalogue.choices_of(tool)]
    behind = [catalogue.models[choice.model] for choice in choices]
    return any(model.skill for model in catalogue.offered_models or behind)


def _unlimited(name: str) -> str:
    """Returns an orchestrator's name without its turn budget; any other name unchanged."""
    found = re.fullmatch(rf"({ORCHESTRATOR}.+)@[1-9][0-9]*", name, re.ASCII)
    return found[1] if found else name
