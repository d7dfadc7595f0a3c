"""Tools and models that the policy can call, and the pool of actors that runs the calls."""
