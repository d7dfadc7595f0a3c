"""Search: passages of a user's own corpus (BM25, or dense vectors), and the web through Tavily.

A corpus is read, split and indexed once, into folders that all processes of a node map into memory.
Local and web search are two tools and never stand in for each other: a preference tells them apart.
"""
