"""The driver: the training loop and its state machines. Holds episode summaries and references."""
