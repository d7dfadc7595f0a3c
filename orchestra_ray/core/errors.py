"""The one exception that a user's mistake raises, before any actor starts."""


class ConfigError(Exception):
    """One line: what is wrong, where, and what to do. The command line exits with code 2."""
