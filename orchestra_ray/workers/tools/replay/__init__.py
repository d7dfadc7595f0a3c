"""Cassettes: recorded tool calls, replayed without calling the tools."""
