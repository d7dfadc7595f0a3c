"""The draw: which models and tools a task sees, and at which prices and latencies.

A draw is a pure function of its seed, so that a task's draw is the same in every process and for
every policy that is compared on it (paper section 3.3: subset and prices vary by instance).
"""

import random

from orchestra_ray.catalogue.entries import Catalogue, ModelEntry, ToolEntry
from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.records import Draw, Offer


def draw_offers(catalogue: Catalogue, config: CatalogueConfig, seed: int) -> Draw:
    """A random subset of the models, then the tools that happen to be present."""
    rng = random.Random(seed)
    count = rng.randint(
        min(config.models_min, len(catalogue.models)), min(config.models_max, len(catalogue.models))
    )
    chosen = set(rng.sample(list(catalogue.models), count))
    models = [model for model in catalogue.models.values() if model.name in chosen]
    tools = [tool for tool in catalogue.tools.values() if rng.random() < tool.presence]
    offers = [_model_offer(model, config, rng) for model in models]
    return Draw(seed, tuple(offers + [_tool_offer(tool) for tool in tools]))


def _model_offer(model: ModelEntry, config: CatalogueConfig, rng: random.Random) -> Offer:
    price_factor = rng.choice(config.price_factors)
    latency_factor = rng.choice(config.latency_factors)
    return Offer(
        alias=model.name,
        identity=model.name,
        kind="model",
        description=model.description,
        input_nanousd_per_mtok=round(model.input_nanousd_per_mtok * price_factor),
        output_nanousd_per_mtok=round(model.output_nanousd_per_mtok * price_factor),
        call_nanousd=0,
        latency_s=model.latency_s * latency_factor,
    )


def _tool_offer(tool: ToolEntry) -> Offer:
    return Offer(
        alias=tool.name,
        identity=tool.name,
        kind="tool",
        description=tool.description,
        input_nanousd_per_mtok=0,
        output_nanousd_per_mtok=0,
        call_nanousd=tool.call_nanousd,
        latency_s=tool.latency_s,
        parameters=tool.parameters,
    )
