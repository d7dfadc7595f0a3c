"""The catalogue of models and tools with prices and latencies, and the toolsets sampled from it."""

from orchestra_ray.data.catalogue.choices import model_of, resolve_choice
from orchestra_ray.data.catalogue.entries import Catalogue, Choice, Entry, Kind, Limits, PriceSheet
from orchestra_ray.data.catalogue.load import load_catalogue, read_catalogue
from orchestra_ray.data.catalogue.toolset import model_aliases, sample_toolset

__all__ = [
    "Catalogue",
    "Choice",
    "Entry",
    "Kind",
    "Limits",
    "PriceSheet",
    "sample_toolset",
    "load_catalogue",
    "model_aliases",
    "model_of",
    "read_catalogue",
    "resolve_choice",
]
