"""The row `before` of another run, in an evaluation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra_ray.config import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.evaluation.episode_log import FILE, EpisodeLog, EvalEpisode
from orchestra_ray.evaluation.start import check_before, start_of
from orchestra_ray.tracking.tracker import Tracker

TASKS = 3
Ask = Callable[..., Config]


def episode(n: int, turns: int) -> EvalEpisode:
    return EvalEpisode(n, f"sum/{n}", "sum", True, 7, 1.5, turns, {"nova": 1}, {"nova": 1})


@pytest.fixture
def ask(quickstart: Config, tmp_path: Path) -> Ask:
    """A configuration that asks for the start of the run in `tmp_path`."""

    def ask(tasks: int = TASKS, **changes: object) -> Config:
        evaluation = replace(quickstart.evaluation, tasks=tasks, before=str(tmp_path))
        return replace(quickstart, evaluation=evaluation, **changes)

    return ask


def measure(folder: Path, config: Config, **turns: int) -> None:
    """Writes the folder of a run; the turns of all episodes by policy."""
    with Tracker.open(folder, config, total_steps=0):
        pass
    log = EpisodeLog(folder / FILE)
    for policy, of_all in turns.items():
        for n in range(TASKS):
            log.add(policy, episode(n, of_all))
    log.close()


@pytest.mark.parametrize(
    ("rows", "turns"), [({"before": 1, "after": 2}, 1), ({"policy": 3, "random": 4}, 3)]
)
def test_it_is_the_start_of_a_training_or_the_policy_of_an_evaluation(
    ask: Ask, tmp_path: Path, rows: dict[str, int], turns: int
) -> None:
    measure(tmp_path, ask(), **rows)
    (tmp_path / FILE).open("a").write('{"policy": "be')  # the other run may be active
    assert start_of(ask()) == {n: episode(n, turns) for n in range(TASKS)}
    assert set(start_of(ask(tasks=2))) == {0, 1}
    assert (tmp_path / FILE).read_text().endswith('{"policy": "be')


def test_a_run_with_other_tasks_or_toolsets_is_refused(ask: Ask, tmp_path: Path) -> None:
    measure(tmp_path, ask(), before=1)
    config = ask()
    others = {
        "seed": ask(seed=7),
        "catalogue.models_max": ask(catalogue=replace(config.catalogue, models_max=5)),
        "evaluation.greedy": replace(config, evaluation=replace(config.evaluation, greedy=False)),
    }
    for key, other in others.items():
        with pytest.raises(ConfigError, match=f"evaluation.before: .* evaluated with {key}="):
            check_before(other, training=False)


def test_a_run_that_lacks_tasks_is_refused(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run that was evaluated"):
        check_before(ask(), training=False)
    measure(tmp_path, ask(), before=1)
    with pytest.raises(ConfigError, match="has not evaluated 2 of 5 tasks"):
        check_before(ask(tasks=5), training=False)
    with pytest.raises(ConfigError, match="training evaluates its own start; leave it out"):
        check_before(ask(), training=True)
    check_before(replace(ask(), evaluation=replace(ask().evaluation, before=None)), training=True)
