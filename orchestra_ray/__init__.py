"""Reinforcement learning of tool-calling orchestrators on Ray, vLLM and DeepSpeed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra_ray.config import Config
    from orchestra_ray.driver.run import EvalReport, RunResult


def train(config: "Config") -> "RunResult":
    """Trains and evaluates the policy of `config`.

    Raises `ConfigError` before any actor starts.
    """
    from orchestra_ray.driver.preflight import preflight

    preflight(config)
    from orchestra_ray.driver import run

    return run.train(config)


def evaluate(config: "Config", resume: bool = False) -> "EvalReport":
    """Compares the policy of `config` with the baselines.

    Raises `ConfigError` before any actor starts. resume: continue an interrupted evaluation of this
    name.
    """
    from orchestra_ray.driver.preflight import preflight

    preflight(config, training=False, resume=resume)
    from orchestra_ray.driver import run

    return run.evaluate(config)
