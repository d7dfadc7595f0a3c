"""The command line: `main`, one file a command, and the modules that do the work."""
