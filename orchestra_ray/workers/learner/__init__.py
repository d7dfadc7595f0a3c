"""Learner: policy-gradient training of the policy under DeepSpeed ZeRO."""
