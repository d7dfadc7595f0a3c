import pytest

from orchestra_ray.config import Config
from orchestra_ray.config.schema import FamilyConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.tasks.reasoning_gym import TaskSource, reference, score_here


def test_every_family_solves_itself_and_nothing_else(quickstart: Config) -> None:
    source = TaskSource.train(quickstart.tasks)
    for family in range(len(source.families)):
        for i in range(20):
            task = source.make(family, i)
            assert score_here(task, reference(task)).correct, task
            assert score_here(task, f" {reference(task)}\n").correct
            assert not score_here(task, reference(task) + "1").correct
            assert not score_here(task, "").correct


def test_a_task_is_a_function_of_its_place(quickstart: Config) -> None:
    one, other = (TaskSource.heldout(quickstart.tasks) for _ in range(2))
    assert one.make(2, 7) == other.make(2, 7)


def test_train_and_held_out_ranges_do_not_meet(quickstart: Config) -> None:
    tasks = quickstart.tasks
    assert tasks.train_seed + tasks.train_size <= tasks.heldout_seed
    train, heldout = TaskSource.train(tasks), TaskSource.heldout(tasks)
    ids = {train.make(0, i).task_id for i in range(50)}
    assert not ids & {heldout.make(0, i).task_id for i in range(50)}


@pytest.mark.parametrize(
    ("family", "settings", "problem"),
    [
        ("no_such_family", {}, "no such family"),
        ("gcd", {"colour": 3}, "bad settings"),
        ("gcd", {"min_numbers": 0}, "bad settings"),
    ],
)
def test_a_family_without_tasks_is_refused(family: str, settings: dict, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        TaskSource([FamilyConfig(name=family, settings=settings)], 0, 10)
