"""Errors of a configuration: `BadValue` is a `ConfigError` with its key."""

from orchestra_ray.core.errors import ConfigError

__all__ = ["BadValue", "ConfigError"]


class BadValue(ConfigError):
    """An unusable value. The loader finds the file that set it by `key`."""

    def __init__(self, key: str, problem: str, remedy: str):
        super().__init__(f"{key}: {problem}; {remedy}")
        self.key = key
