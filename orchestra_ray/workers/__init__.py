"""The four worker roles: rollout, tools, reward and learner."""
