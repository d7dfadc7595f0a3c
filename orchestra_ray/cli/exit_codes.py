"""Exit codes of the command line; the last two are 128 and the number of the signal."""

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143
