"""Models and tools with prices and latencies, and the draw of them that a task gets."""

from orchestra_ray.catalogue.draw import draw_offers
from orchestra_ray.catalogue.entries import Catalogue, ModelEntry, ToolEntry, load_catalogue

__all__ = ["Catalogue", "ModelEntry", "ToolEntry", "draw_offers", "load_catalogue"]
