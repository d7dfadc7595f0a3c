"""The runs of the study, from their own files: summaries, episodes, preferences, failures."""

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
from orchestra_ray.driver.run import RunInputs, load_inputs
from orchestra_ray.evaluation.compare import compare, pool_rewards
from orchestra_ray.evaluation.episode_log import FILE, EpisodeLog, EvalEpisode
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.workers.rollout.episode import FAULTY

Row = Mapping[str, Any]
Pick = Callable[[Mapping[str, Any]], Row]  # a row of a summary
Episodes = Mapping[int, EvalEpisode]  # by the task's number
PolicyRef = tuple[str, str]  # (arm of a run, policy in that run)
FAILED = "failed.txt"  # in the folder of a failed run: the reason
LAST_STEPS = 10  # of training, for the behaviour of a policy when sampled


class Study:
    """The runs by arm and seed. `arms`: the planned seeds of each arm."""

    def __init__(self, runs: Path, arms: Mapping[str, Sequence[int]], seeds: Sequence[int]):
        self.runs, self.arms, self.seeds = runs, arms, seeds

    def folder(self, arm: str, seed: int) -> Path:
        return self.runs / f"{arm}-{seed}"

    def planned(self, *arms: str) -> list[int]:
        """Returns the seeds planned for all of these arms."""
        return [seed for seed in self.seeds if all(seed in self.arms[arm] for arm in arms)]

    def ended(self, *arms: str) -> list[int]:
        """Returns the seeds that ended in all of these arms."""
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
        """Returns a row for each seed that ended, in the arm `beside` too."""
        return [pick(self.summary(arm, seed)) for seed in self.ended(arm, beside or arm)]

    def sampled(self, arm: str, beside: str) -> list[Row]:
        """Returns means over the episodes of the last training steps, by seed."""
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
        """Returns the episodes of the tasks that all policies of the summary have evaluated."""
        summary, log = self.summary(arm, seed), self._log(arm, seed)
        names = [*(n for n in ("before", "after", "policy") if n in summary), *summary["baselines"]]
        numbers = [set(log.done(name)) for name in names]
        return {n: log.done(policy)[n] for n in sorted(set.intersection(*numbers))}

    @cache  # noqa: B019
    def inputs(self, arm: str, seed: int) -> RunInputs:
        return load_inputs(load([self.folder(arm, seed) / "config.yaml"], []))

    def config(self) -> Config:
        return self.inputs("ours", self.ended("ours")[0]).config

    @cache  # noqa: B019
    def groups(self, arm: str, seed: int) -> Mapping[int, GroupSpec]:
        """Returns its held-out tasks with their toolsets and users, by number."""
        inputs = self.inputs(arm, seed)
        return {n: inputs.heldout.group(n, 1) for n in range(inputs.config.evaluation.tasks)}

    def _pool(
        self, seed: int, policies: Mapping[str, PolicyRef]
    ) -> tuple[list[int], dict[str, Any]]:
        """Returns the tasks that all policies have evaluated, and their episodes."""
        episodes = {
            label: self.episodes(arm, seed, name) for label, (arm, name) in policies.items()
        }
        return sorted(set.intersection(*map(set, episodes.values()))), episodes

    def together(
        self, seed: int, policies: Mapping[str, PolicyRef], user: str | None = None
    ) -> Mapping[str, Summary]:
        """Compares policies of several runs on the tasks of the first one's run.

        user: only the tasks of this user. A policy labelled `start` is the reference of preference
        scores.
        """
        numbers, by_policy = self._pool(seed, policies)
        arm = next(iter(policies.values()))[0]
        groups = {n: self.groups(arm, seed)[n] for n in numbers}
        if user is not None:
            groups = {n: group for n, group in groups.items() if group.preference.name == user}
        return compare(by_policy, groups, 1, 0, "start" if "start" in policies else None)

    def reward_gains(self, seed: int, policies: Mapping[str, PolicyRef]) -> Mapping[int, float]:
        """Returns by task the first policy's reward minus the second's, in one comparison."""
        numbers, by_policy = self._pool(seed, policies)
        arm = next(iter(policies.values()))[0]
        gains = {}
        for n in numbers:
            episodes = [found[n] for found in by_policy.values()]
            first, second = pool_rewards(self.groups(arm, seed)[n], episodes)[:2]
            gains[n] = float(first - second)
        return gains

    def parameters(self) -> int:
        """Returns the number of parameters of the trained policy."""
        folder, total = self.folder("ours", self.ended("ours")[0]) / "checkpoints", 0
        last = max(folder.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
        for path in (last / "policy").glob("*.safetensors"):
            with safe_open(path, framework="np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]
            total += sum(int(np.prod(shape)) for shape in shapes)
        return total

    def wall_s(self) -> float:
        """Returns the total wall time of the runs that ended."""
        runs = [(arm, seed) for arm in self.arms for seed in self.ended(arm)]
        return sum(self.summary(arm, seed)["wall_s"] for arm, seed in runs)


def without_calls(episodes: Episodes) -> list[EvalEpisode]:
    """Returns the episodes in which no call reached a tool or model."""
    return [one for one in episodes.values() if not set(one.calls) - {FAULTY}]


def faulty_share(episodes: Episodes) -> float:
    """Returns the fraction of calls that name nothing on offer or cannot be parsed."""
    faulty = sum(one.calls.get(FAULTY, 0) for one in episodes.values())
    return faulty / max(1, sum(sum(one.calls.values()) for one in episodes.values()))
