"""The choices of the scripted routers."""

import numpy as np
import pytest

from orchestra_ray.core.records import GroupSpec, Preference, ToolOption
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.workers.reward.objectives import group_rewards
from orchestra_ray.workers.rollout.policies import expected_cost_nanousd, routers

PREFERENCES = [
    Preference("frugal", "", 0.5, 1.0, 0.0),
    Preference("quick", "", 0.1, 0.0, 1.0),
    Preference("both", "", 0.2, 0.5, 0.5),
    Preference("exact", "", 1.0, 0.0, 0.0),
    Preference("orbit", "", 0.2, 0.1, 0.1, {"orbit": 1.0}),
    Preference("family", "", 0.2, 0.1, 0.1, {"family:pebble": 1.0}),
]


def expected_rewards(
    catalogue: Catalogue,
    group: GroupSpec,
    models: list[ToolOption],
    preference: Preference,
    liked: str,
) -> np.ndarray:
    """Skill times Eq. 2 of a group in which each of the models was asked once and was right."""
    rows = [
        [
            float(one.identity == liked),
            1.0,
            expected_cost_nanousd(catalogue.models[one.identity], one),
            one.latency_s,
        ]
        for one in models
    ]
    weights = np.array(
        [1.0 if liked else 0.0, preference.outcome, preference.cost, preference.latency]
    )
    minimise = np.array([False, False, True, True])
    right = np.ones(len(models), dtype=bool)
    features = np.array(rows)
    # Beside a wrong episode, Eq. 1 gives a right one the whole weight of the outcome.
    rewards = group_rewards(features, weights, right, minimise, "paper") + preference.outcome
    skills = [catalogue.models[one.identity].skill_at(group.task.family) for one in models]
    return np.array(skills) * rewards


@pytest.mark.parametrize("preference", PREFERENCES, ids=lambda preference: preference.name)
def test_the_oracle_takes_the_best_expected_reward_of_the_paper(
    preference: Preference, catalogue: Catalogue, sampler: GroupSampler
) -> None:
    choose = routers(catalogue)["oracle"]
    liked = {"orbit": "orbit", "family": "pebble"}.get(preference.name, "")
    chosen = set()
    for n in range(40):
        group = sampler.group(n, 1)
        models = [option for option in group.toolset.options if option.kind == "model"]
        wanted = GroupSpec(group.group_id, 0, group.task, group.toolset, preference, ())
        values = expected_rewards(catalogue, group, models, preference, liked)
        one = choose(wanted, models, 0)
        assert values[models.index(one)] == pytest.approx(values.max())
        chosen.add(one.identity)
    assert len(chosen) > 1


def test_rules_that_need_no_skill_go_by_price_and_by_strength(
    catalogue: Catalogue, sampler: GroupSampler
) -> None:
    rules = routers(catalogue)
    for n in range(20):
        group = sampler.group(n, 1)
        models = [option for option in group.toolset.options if option.kind == "model"]
        names = {option.identity for option in models}
        assert "nova" not in names or rules["strongest"](group, models, 0).identity == "nova"
        assert "pebble" not in names or rules["cheapest"](group, models, 0).identity == "pebble"
