"""Mistakes in a configuration: `ConfigError` is one line for a person, `BadValue` knows its key."""

from orchestra_ray.core.errors import ConfigError

__all__ = ["BadValue", "ConfigError"]


class BadValue(ConfigError):
    """A value that cannot be used. `key` lets the loader name the file that gave it."""

    def __init__(self, key: str, problem: str, remedy: str):
        super().__init__(f"{key}: {problem}; {remedy}")
        self.key = key
