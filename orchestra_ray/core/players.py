"""How those who can play an episode are called: the names in `GroupSpec.policy`.

Beside these stand the rules of `orchestra_ray.rollout.policy.routers`, by their own names.
"""

MODEL = "model"  # the policy behind vLLM
EXPERT = "expert:"  # then a model of the catalogue: it is always asked, whatever the task
ORCHESTRATOR = "orchestrator:"  # then one with an endpoint: it plays in the policy's place
