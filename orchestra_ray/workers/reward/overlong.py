"""Length penalty: DAPO's soft overlong punishment (arXiv 2503.14476, section 3.4)."""


def overlong_penalty(response_tokens: int, cap: int, margin: int) -> float:
    """Returns the penalty: 0 up to cap - margin tokens, -1 from the cap on, linear in between.

    It distinguishes truncated episodes from wrong ones.
    """
    if not 0 < margin <= cap:
        raise ValueError(f"overlong_penalty: a margin of {margin} tokens does not fit cap {cap}")
    return -min(max((response_tokens - (cap - margin)) / margin, 0.0), 1.0)
