"""How those who can play an episode are called: the names in `GroupSpec.policy`.

The rules of `orchestra_ray.workers.rollout.policies.routers` are policies by their own names.
"""

MODEL = "model"  # the policy behind vLLM
EXPERT = "expert:"  # then a model of the catalogue: it is always asked, whatever the task
ORCHESTRATOR = "orchestrator:"  # then one with an endpoint: it plays in the policy's place
