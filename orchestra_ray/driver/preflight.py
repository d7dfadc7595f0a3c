"""Everything that can be refused before a run starts an actor. No Ray; torch for a model's folder.

The model comes last, so that every other mistake is told at once.
"""

from orchestra_ray.config.schema import Config
from orchestra_ray.config.validation import check_start
from orchestra_ray.data.catalogue import read_catalogue
from orchestra_ray.data.preferences.load import load_heldout_preferences
from orchestra_ray.data.tasks.source import check_sizes, sources
from orchestra_ray.evaluation.baselines import check_baselines
from orchestra_ray.evaluation.start import check_before
from orchestra_ray.workers.reward.judges.checks import check_judges
from orchestra_ray.workers.tools.availability import check_keys
from orchestra_ray.workers.tools.registry import check_backends


def preflight(config: Config, training: bool = True, resume: bool = False) -> None:
    """`ConfigError` where folder, port, model, processors, catalogue or tasks forbid the run."""
    check_start(config, resume)
    catalogue = read_catalogue(config.catalogue)
    check_backends(catalogue)
    if config.cassette.mode.calls and config.cluster.address is None:
        check_keys(catalogue)  # of a cluster the executors' nodes may have them
    check_baselines(config, catalogue)
    check_before(config, training)
    load_heldout_preferences(config.catalogue, config.evaluation.preferences)
    train, heldout = sources(config.tasks)
    check_sizes(config, train, heldout, training)
    check_judges(config, catalogue, (train, heldout))
    if config.model.path is not None:
        # Inside: it imports torch.
        from orchestra_ray.workers.rollout.model_check import check_model

        check_model(config, config.model.path)
