"""The configuration: schema, loading, checks across fields, and the plan of resources."""

from orchestra_ray.config.errors import ConfigError
from orchestra_ray.config.load import load
from orchestra_ray.config.plan.plan import Plan, make_plan
from orchestra_ray.config.plan.render import render
from orchestra_ray.config.schema import Config

__all__ = ["Config", "ConfigError", "Plan", "load", "make_plan", "render"]
