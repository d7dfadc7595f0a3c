"""Inline SVG: elements with escaped text, scales and ticks, the frame of a chart.

Lengths are pixels of the chart's own view box. Colours are CSS classes, so that a page's light and
dark themes apply to the charts.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestra_ray.tracking.units import trimmed

CHAR_PX = 6.6  # width of a character at 12 px, a high estimate
LINE_PX = 14.0


def element(tag: str, *children: str, **attributes: str | float) -> str:
    """Returns the markup of one element. `children` are markup; `class_` is class, `x_y` is x-y."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{given}>{''.join(children)}</{tag}>"


def text(content: str, x: float, y: float, anchor: str = "start", class_: str = "") -> str:
    return element("text", html.escape(content), x=x, y=y, text_anchor=anchor, class_=class_)


def tooltip(content: str) -> str:
    """Returns a tooltip of the enclosing element."""
    return element("title", html.escape(content))


def picture(title: str, width: float, height: float, *children: str, class_: str = "") -> str:
    """Returns a whole chart, scaled to the available width."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        class_=class_,
    )


def _attribute(value: str | float) -> str:
    return html.escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: "Box") -> bool:
        return (
            self.left <= other.left
            and self.right >= other.right
            and self.top <= other.top
            and self.bottom >= other.bottom
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to pixels [start, end]; `log` needs low > 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high = self._place(self.low), self._place(self.high)
        share = (self._place(value) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _place(self, value: float) -> float:
        return math.log10(value) if self.log else value


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str

    def box(self, top: float) -> Box:
        half = len(self.label) * CHAR_PX / 2 + 4
        return Box(self.at - half, top, self.at + half, top + LINE_PX)


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of the values and some room around it; wide enough where they hardly differ."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    room = (high - low if high - low > 1e-6 * size else size) * share or 1.0
    return low - room, high + room


def linear_ticks(low: float, high: float, about: int) -> list[float]:
    """Returns about `about` multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float, multiples: Sequence[int]) -> list[float]:
    """Returns `multiples` of the powers of ten in [low, high]."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in multiples if low <= m * 10.0**p <= high]


def axis_ticks(scale: Scale, about: int) -> list[Tick]:
    """Returns ticks of a horizontal axis whose labels do not overlap."""
    if scale.log:
        rows = [log_ticks(scale.low, scale.high, m) for m in ((1, 2, 5), (1, 3), (1,))]
    else:
        rows = [linear_ticks(scale.low, scale.high, n) for n in range(about, 0, -1)]
    named = [[Tick(scale.at(value), trimmed(value)) for value in row] for row in rows]
    return next((ticks for ticks in named if _clear(ticks)), named[-1][:1])


def _clear(ticks: Sequence[Tick]) -> bool:
    boxes = [tick.box(0.0) for tick in ticks]
    return not any(a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))


def frame(plot: Box, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick]) -> str:
    """Returns grid lines and the labels of both axes around `plot`."""
    across = [
        element("line", class_="rule", x1=plot.left, x2=plot.right, y1=tick.at, y2=tick.at)
        + text(tick.label, plot.left - 6, tick.at + 4, "end", "tick")
        for tick in y_ticks
    ]
    along = [
        element("line", class_="rule", x1=tick.at, x2=tick.at, y1=plot.bottom, y2=plot.bottom + 4)
        + _under(tick, plot)
        for tick in x_ticks
    ]
    return "".join(across + along)


def _under(tick: Tick, plot: Box) -> str:
    """Returns the label below a tick, moved to the left if it would leave the picture."""
    overhang = plot.right + 10
    if tick.box(0.0).right > overhang:
        return text(tick.label, overhang, plot.bottom + 17, "end", "tick")
    return text(tick.label, tick.at, plot.bottom + 17, "middle", "tick")
