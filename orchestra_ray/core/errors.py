"""The exceptions whose one line is all that a user has to read."""


class ConfigError(Exception):
    """One line: what is wrong, where, and what to do. The command line exits with code 2."""


class ReportedError(Exception):
    """A run or a part of it ended, for a reason that lies in another process.

    One line that says why and where the log is; a traceback of this process adds nothing.
    """
