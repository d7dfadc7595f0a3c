"""The result of a combination: rewards by column, and the reward of one unit of each column.

Every combination is linear in an episode's own amounts for fixed group statistics. The reward can
therefore be split into parts, and an amount spent in a turn has a fixed price in reward.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """terms_G_K: the contribution of column k to the reward of episode g.

    slopes_G_K: the effect of one additional unit of the amount, for fixed group statistics; 0 if
    the amount does not count.
    """

    terms_G_K: np.ndarray
    slopes_G_K: np.ndarray

    @property
    def rewards_G(self) -> np.ndarray:
        return self.terms_G_K.sum(axis=1)

    def only(self, counts_G: np.ndarray) -> "Terms":
        """Returns a copy that is 0 for the episodes that do not count."""
        counts_G_1 = np.asarray(counts_G, dtype=bool)[:, None]
        return Terms(
            np.where(counts_G_1, self.terms_G_K, 0.0), np.where(counts_G_1, self.slopes_G_K, 0.0)
        )


def signs(minimise_K: np.ndarray) -> np.ndarray:
    """Returns -1 for the columns where less is better, else 1."""
    return np.where(minimise_K, -1.0, 1.0)


def outcome_column(minimise_K: np.ndarray) -> np.ndarray:
    """Returns bool_K: True for the last of the columns where more is better."""
    column_K = np.zeros(len(minimise_K), dtype=bool)
    column_K[np.flatnonzero(~np.asarray(minimise_K))[-1:]] = True
    return column_K
