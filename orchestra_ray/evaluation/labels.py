"""Places for the labels of a scatter plot: clear of each other and of the marks."""

import math
from collections.abc import Iterator, Sequence

from orchestra_ray.evaluation.svg import LINE_PX, Box

_BOLD_CHAR_PX = 7.8  # at 12 px; labels are bold
_NEAR_PX = 10.0
_DIRECTIONS = [(1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)]


def place_labels(
    anchors: Sequence[tuple[float, float]],
    texts: Sequence[str],
    marks: Sequence[Box],
    plot: Box,
) -> list[Box]:
    """A box for each text, near its anchor: the nearest free place, first come first served.

    Where the plot has no free place left, the label goes to the right of its anchor.
    """
    placed: list[Box] = []
    for anchor, text in zip(anchors, texts, strict=True):
        candidates = list(_candidates(anchor, len(text) * _BOLD_CHAR_PX, plot))
        inside = [box for box in candidates if plot.holds(box)]
        taken = [*marks, *placed]
        free = (box for box in inside if not any(box.overlaps(one) for one in taken))
        placed.append(next(free, candidates[0]))
    return placed


def leader(anchor: tuple[float, float], box: Box) -> tuple[float, float] | None:
    """Where a line from the anchor meets the box; None where the label stands next to it."""
    x = min(max(anchor[0], box.left), box.right)
    y = min(max(anchor[1], box.top), box.bottom)
    return (x, y) if math.hypot(x - anchor[0], y - anchor[1]) > 1.8 * _NEAR_PX else None


def _candidates(anchor: tuple[float, float], width: float, plot: Box) -> Iterator[Box]:
    reach = max(plot.right - plot.left, plot.bottom - plot.top)
    distance = _NEAR_PX
    while distance < reach:
        for across, down in _DIRECTIONS:
            x = anchor[0] + across * (distance + width / 2)
            y = anchor[1] + down * (distance + LINE_PX / 2)
            half = LINE_PX / 2
            yield Box(x - width / 2, y - half, x + width / 2, y + half)
        distance += 5.0
