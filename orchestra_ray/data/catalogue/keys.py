"""What a preference's `tools` name: an offer's identity, or the models that do the calls.

model:NAME    calls that this model did, asked by itself or behind a recipe
family:NAME   the same for all models whose names, without an owner's path, are NAME or go on
              from it with anything but a letter: qwen is qwen3-32b and qwen2.5-math-7b
"""

import re

MODEL, FAMILY = "model:", "family:"


def is_counted(key: str, identity: str, model: str) -> bool:
    """Whether a call of `identity`, done by `model`, counts under this key."""
    if key.startswith(MODEL):
        return model == key.removeprefix(MODEL)
    if key.startswith(FAMILY):
        name = model.rpartition("/")[2].lower()
        return bool(re.match(re.escape(key.removeprefix(FAMILY).lower()) + "(?![a-z])", name))
    return identity == key
