"""The runs of the study, as their own files tell them: summaries, episodes, wishes, failures."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from safetensors import safe_open

from orchestra_ray.config import Config, load
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.driver.run import World, load_world
from orchestra_ray.evaluation.compare import compare, pool_rewards
from orchestra_ray.evaluation.episode_log import FILE, EpisodeLog, EvalEpisode
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.workers.rollout.episode import FAULTY

Row = Mapping[str, Any]
Pick = Callable[[Mapping[str, Any]], Row]  # a row of a summary
Episodes = Mapping[int, EvalEpisode]  # by the task's number
Player = tuple[str, str]  # a run's arm, and which of its policies
FAILED = "failed.txt"  # in the folder of a run that failed: why
LAST_STEPS = 10  # of training, to tell what a policy does when it is sampled


class Study:
    """The runs by arm and seed. `arms`: all that were to be made, and with which of the seeds."""

    def __init__(self, runs: Path, arms: Mapping[str, Sequence[int]], seeds: Sequence[int]):
        self.runs, self.arms, self.seeds = runs, arms, seeds

    def folder(self, arm: str, seed: int) -> Path:
        return self.runs / f"{arm}-{seed}"

    def planned(self, *arms: str) -> list[int]:
        """The seeds with which every one of these runs was to be made."""
        return [seed for seed in self.seeds if all(seed in self.arms[arm] for arm in arms)]

    def ended(self, *arms: str) -> list[int]:
        """The seeds of which every one of these runs ended."""
        paths = {s: [self.folder(a, s) / "summary.json" for a in arms] for s in self.planned(*arms)}
        return [seed for seed, found in paths.items() if all(path.exists() for path in found)]

    def over(self, *arms: str) -> str:
        return f"{len(self.ended(*arms))} of {len(self.planned(*arms))} seeds"

    def why_failed(self, arm: str, seed: int) -> str:
        note = self.folder(arm, seed) / FAILED
        return note.read_text().strip() if note.exists() else "it did not end"

    @cache  # noqa: B019  # one study a process
    def summary(self, arm: str, seed: int) -> Mapping[str, Any]:
        return json.loads((self.folder(arm, seed) / "summary.json").read_text())

    def rows(self, arm: str, pick: Pick, beside: str | None = None) -> list[Row]:
        """A row a seed that ended; `beside`: of this arm too."""
        return [pick(self.summary(arm, seed)) for seed in self.ended(arm, beside or arm)]

    def sampled(self, arm: str, beside: str) -> list[Row]:
        """Means over the episodes of the last steps of training, by seed."""
        names = ("accuracy", "cost_usd", "latency_s", "turns")
        found = []
        for seed in self.ended(arm, beside):
            lines = (self.folder(arm, seed) / "metrics.jsonl").read_text().splitlines()
            steps = [json.loads(line) for line in lines[-LAST_STEPS:]]
            found.append({name: fmean(step[name] for step in steps) for name in names})
        return found

    @cache  # noqa: B019
    def _log(self, arm: str, seed: int) -> EpisodeLog:
        log = EpisodeLog(self.folder(arm, seed) / FILE)
        log.close()
        return log

    def episodes(self, arm: str, seed: int, policy: str) -> Episodes:
        """Of the tasks that the summary counts: those which all of its policies have played."""
        summary, log = self.summary(arm, seed), self._log(arm, seed)
        names = [*(n for n in ("before", "after", "policy") if n in summary), *summary["baselines"]]
        played = [set(log.done(name)) for name in names]
        return {n: log.done(policy)[n] for n in sorted(set.intersection(*played))}

    @cache  # noqa: B019
    def world(self, arm: str, seed: int) -> World:
        return load_world(load([self.folder(arm, seed) / "config.yaml"], []))

    def config(self) -> Config:
        return self.world("ours", self.ended("ours")[0]).config

    @cache  # noqa: B019
    def groups(self, arm: str, seed: int) -> Mapping[int, GroupSpec]:
        """Its held-out tasks with their draws and users, by number."""
        world = self.world(arm, seed)
        return {n: world.heldout.group(n, 1) for n in range(world.config.evaluation.tasks)}

    def _pool(self, seed: int, baselines: Mapping[str, Player]) -> tuple[list[int], dict[str, Any]]:
        """The tasks that all players have played, and what they did."""
        played = {label: self.episodes(arm, seed, name) for label, (arm, name) in baselines.items()}
        return sorted(set.intersection(*map(set, played.values()))), played

    def together(
        self, seed: int, baselines: Mapping[str, Player], user: str | None = None
    ) -> Mapping[str, Summary]:
        """Policies of several runs in one comparison, in the world of the first one.

        user: on the tasks of this one alone. With a player `start`, scored from it.
        """
        numbers, played = self._pool(seed, baselines)
        arm = next(iter(baselines.values()))[0]
        groups = {n: self.groups(arm, seed)[n] for n in numbers}
        if user is not None:
            groups = {n: group for n, group in groups.items() if group.preference.name == user}
        return compare(played, groups, 1, 0, "start" if "start" in baselines else None)

    def reward_gains(self, seed: int, baselines: Mapping[str, Player]) -> Mapping[int, float]:
        """By task, how much more reward the first player has than the second in one comparison."""
        numbers, played = self._pool(seed, baselines)
        arm = next(iter(baselines.values()))[0]
        gains = {}
        for n in numbers:
            episodes = [found[n] for found in played.values()]
            first, second = pool_rewards(self.groups(arm, seed)[n], episodes)[:2]
            gains[n] = float(first - second)
        return gains

    def parameters(self) -> int:
        """Of the trained policy."""
        folder, total = self.folder("ours", self.ended("ours")[0]) / "checkpoints", 0
        last = max(folder.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
        for path in (last / "policy").glob("*.safetensors"):
            with safe_open(path, framework="np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]
            total += sum(int(np.prod(shape)) for shape in shapes)
        return total

    def wall_s(self) -> float:
        """Of every run that ended."""
        runs = [(arm, seed) for arm in self.arms for seed in self.ended(arm)]
        return sum(self.summary(arm, seed)["wall_s"] for arm, seed in runs)


def unasked(episodes: Episodes) -> list[EvalEpisode]:
    """Those in which no call reached anybody."""
    return [one for one in episodes.values() if not set(one.calls) - {FAULTY}]


def faulty_share(episodes: Episodes) -> float:
    """Of all calls, those that name nobody on offer or cannot be read."""
    faulty = sum(one.calls.get(FAULTY, 0) for one in episodes.values())
    return faulty / max(1, sum(sum(one.calls.values()) for one in episodes.values()))
