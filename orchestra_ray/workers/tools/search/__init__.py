"""Search in passages of the user's corpus (BM25 or dense vectors), and in the web through Tavily.

A corpus is read, split and indexed once, into folders that all processes of a node map into memory.
Local and web search are separate tools without fallback, since preferences distinguish them.
"""
