"""Checks everything that can be checked before a run starts an actor, without Ray.

The check of the model imports torch and comes last, so that other errors are reported at once.
"""

from orchestra_ray.config.schema import Config
from orchestra_ray.config.start_checks import check_start
from orchestra_ray.data.catalogue import read_catalogue
from orchestra_ray.data.preferences.load import load_heldout_preferences
from orchestra_ray.data.tasks.source import check_sizes, sources
from orchestra_ray.evaluation.baselines import check_baselines
from orchestra_ray.evaluation.start import check_before
from orchestra_ray.workers.reward.judges.checks import check_graders
from orchestra_ray.workers.tools.availability import check_keys
from orchestra_ray.workers.tools.registry import check_backends


def preflight(config: Config, training: bool = True, resume: bool = False) -> None:
    """Raises `ConfigError` if folder, port, model, processors, catalogue or tasks are unusable."""
    check_start(config, resume)
    catalogue = read_catalogue(config.catalogue)
    check_backends(catalogue)
    if config.cassette.mode.calls and config.cluster.address is None:
        check_keys(catalogue)  # on a cluster, the keys may be set on other nodes
    check_baselines(config, catalogue)
    check_before(config, training)
    load_heldout_preferences(config.catalogue, config.evaluation.preferences)
    train, heldout = sources(config.tasks)
    check_sizes(config, train, heldout, training)
    check_graders(config, catalogue, (train, heldout))
    if config.model.path is not None:
        # Imported here, since it imports torch.
        from orchestra_ray.workers.rollout.model_check import check_model

        check_model(config, config.model.path)
