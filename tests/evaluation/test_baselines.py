from dataclasses import replace

import pytest

from orchestra_ray.config import Config
from orchestra_ray.config.enums import ToolMode
from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import EvaluationConfig
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.evaluation.baselines import budgets, check_baselines, group_for_policy


@pytest.fixture
def group(sampler: GroupSampler) -> GroupSpec:
    return sampler.group(3, 1)


@pytest.mark.parametrize(
    ("mode", "kinds"), [(ToolMode.ALL, {"model", "tool"}), (ToolMode.NONE, set())]
)
def test_the_mode_says_what_is_on_offer(
    group: GroupSpec, catalogue: Catalogue, mode: ToolMode, kinds: set[str]
) -> None:
    found = group_for_policy(group, "model", EvaluationConfig(tools=mode), catalogue)
    assert {option.kind for option in found.toolset.options} == kinds


def test_basic_tools_are_those_without_a_model_behind_them(
    sampler: GroupSampler, catalogue: Catalogue
) -> None:
    config = EvaluationConfig(tools=ToolMode.BASIC)
    for n in range(10):
        group = sampler.group(n, 1)
        options = group_for_policy(group, "model", config, catalogue).toolset.options
        assert list(options) == [
            o for o in group.toolset.options if o.kind == "tool" and not o.choices
        ]


def test_an_expert_is_on_offer_whether_sampled_or_not(
    sampler: GroupSampler, catalogue: Catalogue
) -> None:
    for n in range(10):
        group = sampler.group(n, 1)
        for name in catalogue.models:
            found = group_for_policy(group, f"expert:{name}", EvaluationConfig(), catalogue)
            (option,) = [o for o in found.toolset.options if o.identity == name]
            assert option in group.toolset.options or option.prices == catalogue.models[name].prices
            others = [o for o in found.toolset.options if o is not option]
            assert others == [o for o in group.toolset.options if o.identity != name]


def test_a_turn_budget_is_part_of_a_row(group: GroupSpec, catalogue: Catalogue) -> None:
    config = EvaluationConfig(turn_budgets=[10, 20])
    rows = [group_for_policy(group, name, config, catalogue) for name in budgets("model", config)]
    assert [(row.policy, row.max_turns) for row in rows] == [
        ("model", None),
        ("model", 10),
        ("model", 20),
    ]


def unrated(catalogue: Catalogue) -> Catalogue:
    entries = {name: replace(one, skill={}) for name, one in catalogue.entries.items()}
    return replace(catalogue, entries=entries)


@pytest.mark.parametrize("name", ["strongest", "oracle"])
def test_a_rule_that_ranks_by_skill_needs_one(
    quickstart: Config, catalogue: Catalogue, name: str
) -> None:
    config = replace(quickstart, evaluation=EvaluationConfig(tasks=1, baselines=[name]))
    check_baselines(config, catalogue)
    with pytest.raises(BadValue, match=rf"{name}.*skill.*leave strongest and oracle out"):
        check_baselines(config, unrated(catalogue))
    hidden = {n: replace(one, offered=False) for n, one in catalogue.models.items()}
    mute = replace(catalogue.models["nova"], name="mute", skill={})
    entries = {**catalogue.entries, **hidden, "mute": mute}
    with pytest.raises(BadValue, match="no model on offer states one"):
        check_baselines(config, replace(catalogue, entries=entries))


def test_without_skills_only_a_rule_that_is_evaluated_is_refused(
    quickstart: Config, catalogue: Catalogue
) -> None:
    for evaluation in (
        EvaluationConfig(tasks=1, baselines=["random", "cheapest"]),
        EvaluationConfig(tasks=0),
    ):
        check_baselines(replace(quickstart, evaluation=evaluation), unrated(catalogue))


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_without_a_turn_is_refused(
    quickstart: Config, catalogue: Catalogue, budget: int
) -> None:
    config = replace(quickstart, evaluation=EvaluationConfig(turn_budgets=[10, budget]))
    with pytest.raises(BadValue, match="evaluation.turn_budgets"):
        check_baselines(config, catalogue)


def test_an_orchestrator_can_have_a_turn_budget_and_a_rule_cannot(
    quickstart: Config, catalogue: Catalogue, group: GroupSpec
) -> None:
    remote = replace(catalogue.models["nova"], backend="endpoint")
    known = replace(catalogue, entries={**catalogue.entries, "nova": remote})
    name = "orchestrator:nova@5"
    check_baselines(replace(quickstart, evaluation=EvaluationConfig(baselines=[name])), known)
    found = group_for_policy(group, name, EvaluationConfig(), known)
    assert (found.policy, found.max_turns) == ("orchestrator:nova", 5)
    for wrong in ("orchestrator:nova@0", "orchestrator:nova@", "orchestrator:no@5", "random@5"):
        config = replace(quickstart, evaluation=EvaluationConfig(baselines=[wrong]))
        with pytest.raises(BadValue, match="is unknown"):
            check_baselines(config, known)


def test_an_unknown_baseline_is_refused(quickstart: Config, catalogue: Catalogue) -> None:
    for name in ("none", "expert:absent", "orchestrator:nova"):
        evaluation = replace(quickstart.evaluation, baselines=[name])
        with pytest.raises(BadValue, match="is unknown"):
            check_baselines(replace(quickstart, evaluation=evaluation), catalogue)
    known = replace(quickstart.evaluation, baselines=["random", "expert:nova"])
    check_baselines(replace(quickstart, evaluation=known), catalogue)
