"""Scoring: is the answer right, what is the group worth under the user's preference, what to learn.

Pure functions of a group's trajectories; `actor.py` gives them a process.
"""
