"""Reinforcement learning of tool-calling orchestrators on Ray, vLLM and DeepSpeed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra_ray.config import Config
    from orchestra_ray.driver.run import EvalReport, RunResult


def train(config: "Config") -> "RunResult":
    """Trains the policy of `config` and compares it; `ConfigError` before any actor starts."""
    from orchestra_ray.driver.preflight import preflight

    preflight(config)
    from orchestra_ray.driver import run

    return run.train(config)


def evaluate(config: "Config", resume: bool = False) -> "EvalReport":
    """Compares the policy of `config` with the baselines; `ConfigError` before any actor starts.

    resume: goes on with an evaluation of this name that was interrupted.
    """
    from orchestra_ray.driver.preflight import preflight

    preflight(config, training=False, resume=resume)
    from orchestra_ray.driver import run

    return run.evaluate(config)
