"""Placement of a scatter plot's labels, clear of each other and of the marks."""

import math
from collections.abc import Iterator, Sequence

from orchestra_ray.evaluation.report.svg import LINE_PX, Box

BOLD_CHAR_PX = 8.4  # at 12 px, on the wide side of fonts; labels are bold
_NEAR_PX = 10.0
_DIRECTIONS = [
    *((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)),
    *((0.5, -1), (-0.5, -1), (0.5, 1), (-0.5, 1)),
]


def place_labels(
    anchors: Sequence[tuple[float, float]],
    texts: Sequence[str],
    marks: Sequence[Box],
    plot: Box,
) -> list[Box]:
    """Returns a box for each text: the free place nearest to its anchor, in the order of the texts.

    Without a free place the label goes where it covers the least.
    """
    placed: list[Box] = []
    for anchor, text in zip(anchors, texts, strict=True):
        candidates = list(_candidates(anchor, len(text) * BOLD_CHAR_PX, plot))
        inside = [box for box in candidates if plot.holds(box)] or candidates
        free = (box for box in inside if not _covered(box, (*placed, *marks)))
        found = next(free, None)
        if found is None:  # covering a label is worse than covering a mark
            found = min(inside, key=lambda box: (_covered(box, placed), _covered(box, marks)))
        placed.append(found)
    return placed


def _covered(box: Box, others: Sequence[Box]) -> float:
    """Returns the area of `box` that covers others."""
    return sum(
        (min(box.right, one.right) - max(box.left, one.left))
        * (min(box.bottom, one.bottom) - max(box.top, one.top))
        for one in others
        if box.overlaps(one)
    )


def elided(text: str, most: int) -> str:
    """Shortens a text to `most` characters and keeps both ends: names often differ at the end."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def leader(anchor: tuple[float, float], box: Box) -> tuple[float, float] | None:
    """Returns where a line from the anchor meets the box; None if the label is next to it."""
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
