"""Task sources, task scoring, and the order of sampling."""
