"""Finds names in instructions that aliases hide from the policy (`catalogue.aliases`).

A policy that sees model-1 and model-2 cannot follow an intent about a model by name, and model-1
is another model in every toolset. Tools have no alias, so instructions may name them.
"""

import re

from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.choices import MODEL
from orchestra_ray.data.catalogue.describe import names_of
from orchestra_ray.data.preferences.intents import families


def named_in(instruction: str, catalogue: Catalogue) -> str | None:
    """Returns the first hidden name, family or alias in the instruction; None without one."""
    models = list(catalogue.models.values())
    names = [re.escape(name) for model in models for name in names_of(model)]
    stems = [rf"{re.escape(family)}(?=\W|\d|$)" for family in families(models)]
    shown = {tool.name for tool in catalogue.offered_tools}
    pattern = "|".join([*names, *stems, rf"{MODEL}[ -]?\d+"])
    found = re.finditer(rf"(?<!\w)(?:{pattern})(?![a-zA-Z])", instruction, re.IGNORECASE)
    return next((match[0] for match in found if match[0] not in shown), None)
