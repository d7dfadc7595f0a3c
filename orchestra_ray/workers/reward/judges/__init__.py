"""Correctness of answers: rule-based graders and LLM judges, by name in `registry`."""
