"""Keys of a preference's `tools`: the identity of an option, or the models that serve the calls.

model:NAME    calls served by this model, asked directly or through a recipe
family:NAME   the same for all models whose names, without the owner's path, are NAME, or NAME
              followed by anything but a letter: qwen matches qwen3-32b and qwen2.5-math-7b
"""

import re

MODEL, FAMILY = "model:", "family:"


def is_counted(key: str, identity: str, model: str) -> bool:
    """Returns whether a call of `identity`, served by `model`, counts under this key."""
    if key.startswith(MODEL):
        return model == key.removeprefix(MODEL)
    if key.startswith(FAMILY):
        name = model.rpartition("/")[2].lower()
        return bool(re.match(re.escape(key.removeprefix(FAMILY).lower()) + "(?![a-z])", name))
    return identity == key
