"""Reward: correctness of answers, rewards under the user's preference, and advantages.

Pure functions of a group's trajectories; `actor` runs them in a Ray actor.
"""
