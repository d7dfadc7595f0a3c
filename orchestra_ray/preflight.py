"""Everything that can be refused before a run starts an actor. No Ray; torch for a model's folder.

The model comes last, so that every other mistake is told at once.
"""

from pathlib import Path

from orchestra_ray.catalogue import read_catalogue
from orchestra_ray.catalogue.preferences import load_heldout_preferences
from orchestra_ray.config.checks import check_start
from orchestra_ray.config.model_folder import model_folder
from orchestra_ray.config.schema import Config
from orchestra_ray.config.shape import model_shape
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.evaluation.players import check_players
from orchestra_ray.evaluation.start import check_before
from orchestra_ray.reward.judges.checks import check_judges
from orchestra_ray.tasks.source import check_sizes, sources
from orchestra_ray.tools.toolbox import check_executors


def preflight(config: Config, training: bool = True, resume: bool = False) -> None:
    """`ConfigError` where folder, port, model, processors, catalogue or tasks forbid the run."""
    check_start(config, resume)
    catalogue = read_catalogue(config.catalogue)
    check_executors(catalogue)
    check_players(config, catalogue)
    check_before(config, training)
    load_heldout_preferences(config.catalogue, config.evaluation.preferences)
    train, heldout = sources(config.tasks)
    check_sizes(config, train, heldout, training)
    check_judges(config, catalogue, (train, heldout))
    if config.model.path is not None:
        check_model(config, config.model.path)


def check_model(config: Config, path: str) -> None:
    """`ConfigError` if the model's weights, tokenizer or chat template cannot be trained.

    The weights of a model that is no folder here are looked at where they are downloaded.
    """
    # Inside: these import torch.
    from orchestra_ray.rollout.chat import Chat
    from orchestra_ray.rollout.template_check import check_template
    from orchestra_ray.weights.tensors import check_folder

    is_folder = Path(path).is_dir()
    if is_folder:
        check_folder(path)
    chat = Chat(model_folder(path, weights=False), config.model.chat_template)
    check_template(chat, path)
    known = model_shape(config).vocab_size if is_folder else chat.vocabulary
    if chat.vocabulary > known:
        raise ConfigError(
            f"model.path: {path}: its tokenizer has {chat.vocabulary} tokens, its model {known}; "
            "use the tokenizer that belongs to the model"
        )
