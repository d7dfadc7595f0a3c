"""Tools of Model Context Protocol servers, over stdio or HTTP."""
