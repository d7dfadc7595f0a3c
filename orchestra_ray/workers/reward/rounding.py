"""When two amounts are equal: sums of the same floats in another order are.

One tolerance for amounts, rewards and advantages: SAME of the size of the values. Near 0, where
the values have no size, that of FLOOR, so differences up to SAME x FLOOR = 1e-15 are none.
"""

from typing import TypeVar

import numpy as np

SAME = 1e-9
FLOOR = 1e-6

Amounts = TypeVar("Amounts", float, np.ndarray)


def differs(low: Amounts, high: Amounts, size: float = 0.0) -> np.ndarray:
    """Whether `high` is above `low` by more than rounding, elementwise.

    `size`: of the summands that the values are sums of, if these may have cancelled out.
    """
    with np.errstate(invalid="ignore"):  # of a column that nothing counts in
        span = np.subtract(high, low)
    return span > SAME * np.maximum(np.maximum(np.abs(low), np.abs(high)), max(size, FLOOR))


def spreads(values: np.ndarray, size: float = 0.0) -> bool:
    """Whether the values, if any, differ by more than rounding."""
    return bool(values.size and differs(values.min(), values.max(), size))
