"""Everything that can be refused before a run starts an actor. No Ray, no torch."""

from orchestra_ray.catalogue import read_catalogue
from orchestra_ray.config.checks import check_start
from orchestra_ray.config.schema import Config
from orchestra_ray.tools.toolbox import check_executors


def preflight(config: Config) -> None:
    """`ConfigError` where folder, port, model, processors, catalogue or tasks forbid the run."""
    check_start(config)
    check_executors(read_catalogue(config.catalogue))
    # Last and inside: importing the task families takes a second or two.
    from orchestra_ray.tasks.reasoning_gym import TaskSource

    TaskSource.train(config.tasks)
    TaskSource.heldout(config.tasks)
