"""Models behind OpenAI-compatible chat endpoints, and the HTTP client that tools share."""
