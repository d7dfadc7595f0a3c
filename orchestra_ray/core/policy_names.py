"""Names of the policies that can run an episode, as in `GroupSpec.policy`.

The rules of `orchestra_ray.workers.rollout.policies.routers` are further policies, by their names.
"""

MODEL = "model"  # the policy that vLLM serves
EXPERT = "expert:"  # and the name of a catalogue model, which is called for every task
ORCHESTRATOR = "orchestrator:"  # and the name of a model with an endpoint, which is the policy
