"""Equality of amounts up to rounding, so that sums of the same floats in any order are equal.

One tolerance for amounts, rewards and advantages: SAME, relative to the magnitude of the values,
which is taken to be FLOOR at least. Differences up to SAME x FLOOR = 1e-15 never count.
"""

from typing import TypeVar

import numpy as np

SAME = 1e-9
FLOOR = 1e-6

Amounts = TypeVar("Amounts", float, np.ndarray)


def differs(low: Amounts, high: Amounts, size: float = 0.0) -> np.ndarray:
    """Returns whether `high` exceeds `low` by more than rounding, elementwise.

    size: magnitude of the summands of the values, if these may have cancelled out.
    """
    with np.errstate(invalid="ignore"):  # of a column without counted amounts
        span = np.subtract(high, low)
    return span > SAME * np.maximum(np.maximum(np.abs(low), np.abs(high)), max(size, FLOOR))


def spreads(values: np.ndarray, size: float = 0.0) -> bool:
    """Returns whether the values differ by more than rounding; False if there are none."""
    return bool(values.size and differs(values.min(), values.max(), size))
