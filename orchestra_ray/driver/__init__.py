"""The driver: the training loop and its state machines.

It holds episode summaries and references to trajectories, never a trajectory.
"""
