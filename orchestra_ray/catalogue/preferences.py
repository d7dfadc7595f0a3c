"""The user's preferences: from the configuration to records."""

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.records import Preference


def load_preferences(config: CatalogueConfig) -> list[Preference]:
    return [
        Preference(p.name, p.instruction, p.outcome, p.cost, p.latency, p.tools)
        for p in config.preferences
    ]
