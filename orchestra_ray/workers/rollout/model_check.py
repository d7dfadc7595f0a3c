"""Checks that a model can be trained: weights, tokenizer and chat template.

Called by a run before an actor starts, and by `orchestra doctor` with a configuration.
"""

from pathlib import Path

from orchestra_ray.config.enums import ContextPolicy
from orchestra_ray.config.model_folder import model_folder, not_from_hub
from orchestra_ray.config.plan.shape import model_shape
from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.weights.tensors import check_folder
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.template_check import check_template


def check_model(config: Config, path: str) -> None:
    """Raises `ConfigError` if the weights, tokenizer or chat template cannot be used in training.

    If the model is not a local folder, its weights are checked by the processes that download them.
    """
    is_folder = Path(path).is_dir()
    if is_folder:
        check_folder(path)
    chat = Chat(_folder(path), config.model.chat_template)
    rebuilds = config.rollout.context is ContextPolicy.REBUILD
    check_template(chat, path, config.rollout.rebuild_system if rebuilds else None)
    known = model_shape(config).vocab_size if is_folder else chat.vocabulary
    if chat.vocabulary > known:
        raise ConfigError(
            f"model.path: {path}: its tokenizer has {chat.vocabulary} tokens, its model {known}; "
            "use the tokenizer that belongs to the model"
        )


def _folder(path: str) -> str:
    try:
        return model_folder(path, weights=False)
    except Exception as error:  # gated, offline: the hub's client raises many types
        raise not_from_hub(path, error) from None
