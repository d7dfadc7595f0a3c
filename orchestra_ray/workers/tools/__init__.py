"""Tools and expert models that the policy calls, and the pool of executors that runs the calls."""
