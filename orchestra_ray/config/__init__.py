"""The configuration: schema, loading, checks across fields, and the plan of resources."""

from orchestra_ray.config.load import load
from orchestra_ray.config.schema import Config

__all__ = ["Config", "load"]
