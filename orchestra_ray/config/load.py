"""Loading: schema <- YAML files in order <- `key=value` overrides."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from orchestra_ray.config.schema import Config


def load(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """The resolved, checked configuration as an instance of `Config`."""
    merged = OmegaConf.structured(Config)
    for path in paths:
        merged = OmegaConf.merge(merged, OmegaConf.load(path))
    merged = OmegaConf.merge(merged, OmegaConf.from_dotlist(list(overrides)))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Config)
    return config
