"""The driver: the loop, and the state machines that decide for it. Holds cards and references."""
