"""The resources of a run, computed from its configuration: bundles, memory, volumes."""
