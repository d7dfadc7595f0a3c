"""What a combination gives: the reward, column by column, and each column's price a unit.

Every combination is linear in an episode's own amounts once the group's statistics are fixed. So
the reward splits into parts, and an amount that is spent in a turn has a price in reward.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """terms_G_K: what column k adds to the reward of episode g.

    slopes_G_K: how much one unit more of the amount would add, the group's statistics held fixed;
    0 where the amount does not count.
    """

    terms_G_K: np.ndarray
    slopes_G_K: np.ndarray

    @property
    def rewards_G(self) -> np.ndarray:
        return self.terms_G_K.sum(axis=1)

    def only(self, counts_G: np.ndarray) -> "Terms":
        """The same, with nothing for the episodes that do not count."""
        counts_G_1 = np.asarray(counts_G, dtype=bool)[:, None]
        return Terms(
            np.where(counts_G_1, self.terms_G_K, 0.0), np.where(counts_G_1, self.slopes_G_K, 0.0)
        )


def signs(minimise_K: np.ndarray) -> np.ndarray:
    """-1 in the columns where less is better, else 1."""
    return np.where(minimise_K, -1.0, 1.0)


def outcome_column(minimise_K: np.ndarray) -> np.ndarray:
    """bool_K: True in the last column of those where more is better."""
    column_K = np.zeros(len(minimise_K), dtype=bool)
    column_K[np.flatnonzero(~np.asarray(minimise_K))[-1:]] = True
    return column_K
