from dataclasses import replace
from typing import TYPE_CHECKING

from orchestra_ray.core.records import Preference
from orchestra_ray.data.tasks.reasoning_gym import TaskSource
from orchestra_ray.data.tasks.sampler import GroupSampler

if TYPE_CHECKING:
    from orchestra_ray.config import Config
    from orchestra_ray.data.catalogue import Catalogue


def test_the_cursor_gives_each_group_once(sampler: GroupSampler) -> None:
    groups = [sampler.next_group(2, step=n // 3 + 1) for n in range(9)]
    assert groups == [sampler.group(n, 2, step=n // 3 + 1) for n in range(9)]
    ids = [episode.episode_id for group in groups for episode in group.episodes]
    assert len(set(ids)) == 18


def test_families_come_in_turn(sampler: GroupSampler) -> None:
    families = [sampler.group(n, 1).task.family for n in range(16)]
    assert families[:8] == families[8:] and len(set(families)) == 8


def test_policies_are_compared_on_the_same_task_toolset_and_seeds(sampler: GroupSampler) -> None:
    one = sampler.group(4, 1, "model", prefix="before", greedy=True)
    other = sampler.group(4, 1, "oracle", prefix="oracle")
    assert (one.task, one.toolset, one.preference) == (other.task, other.toolset, other.preference)
    assert one.episodes[0].seed == other.episodes[0].seed
    assert one.episodes[0].episode_id != other.episodes[0].episode_id


def test_a_preference_for_a_tool_stands_only_where_the_tool_is(
    quickstart: "Config", catalogue: "Catalogue"
) -> None:
    plain = Preference("plain", "Be right.", 1.0, 0.0, 0.0)
    python = Preference("python", "Use the python tool.", 1.0, 0.0, 0.0, {"python": 1.0})
    source = TaskSource.train(quickstart.tasks)
    sampler = GroupSampler(source, catalogue, quickstart.catalogue, [plain, python], seed=1)
    groups = [sampler.group(n, 1) for n in range(100)]
    intended = [group for group in groups if group.preference is python]
    assert intended and all(group.toolset.option("python") is not None for group in intended)
    assert any(group.toolset.option("python") is None for group in groups)


def test_another_user_has_the_same_tasks_toolsets_and_seeds(
    quickstart: "Config", catalogue: "Catalogue", sampler: GroupSampler
) -> None:
    source = TaskSource.train(quickstart.tasks)
    preference = Preference("one", "Ask the cheapest.", 0.0, 1.0, 0.0)
    alone = GroupSampler(source, catalogue, quickstart.catalogue, [preference], seed=1)
    for n in range(20):
        one, other = alone.group(n, 1), sampler.group(n, 1)
        assert one == replace(other, preference=preference)
