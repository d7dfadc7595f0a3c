"""Contents of an episode: the catalogue, user preferences and tasks. A folder of packages."""
