"""Length as a part of the reward: DAPO's soft punishment (arXiv 2503.14476, section 3.4)."""


def overlong_penalty(response_tokens: int, cap: int, margin: int) -> float:
    """What is added to a reward: 0 up to cap - margin tokens, -1 from the cap on, linear between.

    Without it an episode that was cut and one that was wrong look alike.
    """
    if not 0 < margin <= cap:
        raise ValueError(f"overlong_penalty: a margin of {margin} tokens does not fit cap {cap}")
    return -min(max((response_tokens - (cap - margin)) / margin, 0.0), 1.0)
