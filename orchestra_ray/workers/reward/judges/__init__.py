"""Judges: is an answer right? One module a judge; `bench` has them all, `actor.py` calls it."""
