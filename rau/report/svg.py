"""Plots as inline SVG, with the value of every mark on hover and a table of all values.

Colours are classes, so that a page's style sheet defines them for both colour schemes. The width is
that of a phone, so that text remains readable there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal
from xml.etree import ElementTree as ET

from markupsafe import Markup
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import MaxNLocator

from rau.report import numbers
from rau.report.html import mark

STYLE = Path(__file__).with_name("plots.css")
WIDTH, LETTER, WIDEST = 400.0, 6.4, 7.2
LEFT, RIGHT, TOP, HEIGHT = 46.0, 12.0, 10.0, 210.0
ROW, EDGE = 36.0, 16.0
SERIES = 8  # Classes of plots.css.
# Maximum number of points of a curve that have a mark and a row in the table.
MARKS = 100
# In points: if most differences of a forest are below NEAR, those above FAR would use all space.
NEAR, FAR = 2.0, 8.0
Scale = Literal["linear", "log", "symlog"]


@dataclass(frozen=True)
class Plot:
    """A plot with its table; `note` is a sentence below it."""

    title: str
    svg: Markup
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def file(self) -> bytes:
        """The plot as a separate SVG file in light colours."""
        style = STYLE.read_text(encoding="utf-8")
        start = f"<style>:root {{ color-scheme: light; background: #fff; }}\n{style}</style>"
        head, _, rest = str(self.svg).partition(">")
        return f'{head} xmlns="http://www.w3.org/2000/svg">{start}{rest}'.encode()


@dataclass(frozen=True)
class Point:
    """A row of a forest plot; `own` marks the run's own method, `p` is a p-value."""

    label: str
    value: float
    interval: Sequence[float] | None = None
    own: bool = False
    p: float | None = None

    def rounded(self) -> "Point":
        """Round to the printed decimals, so that a difference of 1e-14 becomes zero."""
        ends = self.interval and [round(end, 2) for end in self.interval]
        return replace(self, value=round(self.value, 2), interval=ends)


@dataclass(frozen=True)
class Series:
    """A curve; unknown values are NaN. `band` contains the ends of its intervals."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    own: bool = False
    dashed: bool = False
    colour: int | None = None
    band: tuple[Sequence[float], Sequence[float]] | None = None


@dataclass(frozen=True)
class Axis:
    """A map from values to positions between `start` and `end`, with ticks."""

    low: float
    high: float
    start: float
    end: float
    scale: Scale
    ticks: Sequence[float]

    @classmethod
    def over(
        cls,
        values: Sequence[float],
        start: float,
        end: float,
        scale: Scale = "linear",
        ticks: Sequence[float] = (),
        least: float = 0.0,
    ) -> "Axis":
        """An axis that contains all values. Unless `ticks` are given, they are at round values, and
        at integers if all values are integers. A linear axis spans at least `least`."""
        known = [_forward(v, scale) for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        room = 0.04 * (high - low) or 0.5
        if scale == "linear":
            whole = all(float(v).is_integer() for v in known)
            missing = max(0.0, (least if low < high else 2.0) - (high - low))
            low, high = low - missing / 2, high + missing / 2
            locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=whole)
            found = [float(tick) for tick in locator.tick_values(low, high)]
            return cls(min(low, found[0]), max(high, found[-1]), start, end, scale, ticks or found)
        edges = (-100.0, -30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
        wide = low - room, high + room
        shown = [t for t in ticks or edges if wide[0] <= _forward(t, scale) <= wide[1]]
        return cls(*wide, start, end, scale, shown)

    def __call__(self, value: float) -> float:
        """The position of a value."""
        share = (_forward(value, self.scale) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _forward(value: float, scale: Scale) -> float:
    if scale == "log":
        return math.log(value)
    if scale == "symlog":
        return float(SymmetricalLogTransform(10, 2, 1).transform([value])[0])
    return value


def forest(title: str, points: Sequence[Point], unit: str, signed: bool = False) -> Plot:
    """Values with their intervals, one below the other.

    Args:
        unit: unit of the values, for the axis and the table.
        signed: the values are differences: they are written with signs, and zero is drawn. If most
            are close to zero and some are far, the axis is logarithmic beyond two.
    """
    number = numbers.signed if signed else "{:.2f}".format
    points = [point.rounded() for point in points]
    ends = [end for p in points for end in (p.value, *(p.interval or ()))]
    near = median(abs(p.value) for p in points) <= NEAR if points else True
    wide = signed and near and max(map(abs, ends), default=0) > FAR
    bottom = TOP + ROW * len(points)
    ends += [0.0] if signed else []
    axis = Axis.over(ends, EDGE, WIDTH - EDGE, "symlog" if wide else "linear", least=1.0)
    root = _root(title, bottom + 40)
    _x_axis(root, axis, bottom, unit, TOP)
    if signed:
        _line(root, "zero", axis(0), TOP, axis(0), bottom)
    rows = []
    for place, point in enumerate(points):
        own = " own" if point.own else ""
        y = TOP + ROW * place + 26
        shown = number(point.value)
        span = f"[{', '.join(map(number, point.interval))}]" if point.interval else ""
        stars = "" if point.p is None else mark(point.p)
        row = _sub(root, "g", {"class": f"row{own}"})
        _sub(row, "title").text = f"{point.label}: {shown} {span} {stars}".strip()
        hit = {"x": "0", "y": str(y - 26), "width": str(WIDTH), "height": str(ROW)}
        _sub(row, "rect", {"class": "hit", **hit})
        _text(row, EDGE, y - 11, _fit(point.label), "start")
        _opaque(row, WIDTH - EDGE, y - 11, f"{shown} {span}{stars}")
        if point.interval:
            _line(row, "span", axis(point.interval[0]), y, axis(point.interval[1]), y)
        _sub(row, "circle", {"cx": str(axis(point.value)), "cy": str(y), "r": "4.5"})
        rows.append((point.label, shown, span, "" if point.p is None else f"{point.p:.4f}"))
    header = ("", unit, "95 % interval", "p")[: 3 + any(p.p is not None for p in points)]
    return Plot(title, _markup(root), header, [row[: len(header)] for row in rows])


def curves(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    x_ticks: Sequence[float] = (),
    log_x: bool = False,
    from_zero: bool = True,
    mark: tuple[float, str] | None = None,
    digits: int = 2,
) -> Plot:
    """Curves over a common axis.

    Args:
        x_ticks: ticks of the horizontal axis; round values if it is linear and none are given.
        from_zero: the vertical axis includes zero.
        mark: a value on the horizontal axis and its label.
        digits: decimals of the values.
    """
    xs = sorted({float(x) for one in series for x in one.x})
    ys = [float(v) for one in series for own in (one.y, *(one.band or ())) for v in own]
    legend = _legend(series, mark)
    bottom = TOP + HEIGHT
    root = _root(title, bottom + 42 + 16 * len(legend))
    x = Axis.over(xs, LEFT, WIDTH - RIGHT, "log" if log_x else "linear", x_ticks)
    y = Axis.over([*ys, *([0.0] if from_zero else [])], bottom, TOP)
    _x_axis(root, x, bottom, x_label, TOP)
    for tick in y.ticks:
        _line(root, "grid", LEFT, y(tick), WIDTH - RIGHT, y(tick))
        _text(root, LEFT - 6, y(tick) + 4, _tick(tick), "end", "tick")
    _text(root, 0, 0, y_label, "middle", "tick", f"translate(11 {TOP + HEIGHT / 2}) rotate(-90)")
    if mark is not None:
        _line(root, "mark", x(mark[0]), TOP, x(mark[0]), bottom)
    for place, one in enumerate(series):
        _curve(root, one, place, x, y, (x_label, digits))
    for line, entries in enumerate(legend):
        at = 8.0
        for label, classes in entries:
            height = bottom + 52 + 16 * line
            _line(root, classes, at, height - 4, at + 18, height - 4)
            _text(root, at + 23, height, label, "start", "tick")
            at += 36 + LETTER * len(label)
    every = xs[:: max(1, len(xs) // MARKS)]
    values = [dict(zip(map(float, one.x), one.y, strict=True)) for one in series]
    rows = [(f"{v:g}", *(_number(own.get(v), digits) for own in values)) for v in every]
    return Plot(title, _markup(root), (x_label, *(one.label for one in series)), rows)


def _curve(
    root: ET.Element, one: Series, place: int, x: Axis, y: Axis, wording: tuple[str, int]
) -> None:
    name, digits = wording
    group = _sub(root, "g", {"class": _classes(one, place)})
    points = [(float(a), float(b)) for a, b in zip(one.x, one.y, strict=True)]
    known = [(a, b) for a, b in points if math.isfinite(b)]
    if one.band:
        there = list(zip(one.x, one.band[0], strict=True))
        back = list(zip(one.x, one.band[1], strict=True))[::-1]
        outline = " ".join(f"{x(a)},{y(b)}" for a, b in (*there, *back))
        _sub(group, "polygon", {"points": outline})
    _sub(group, "polyline", {"points": " ".join(f"{x(a)},{y(b)}" for a, b in known)})
    for a, b in known[:: max(1, len(known) // MARKS)]:
        dot = _sub(group, "circle", {"cx": str(x(a)), "cy": str(y(b)), "r": "2.5"})
        _sub(dot, "title").text = f"{one.label}, {name} {a:g}: {_number(b, digits)}"


def _classes(one: Series, place: int) -> str:
    colour = place if one.colour is None else one.colour
    return f"s{colour % SERIES}" + " own" * one.own + " dashed" * one.dashed


def _legend(
    series: Sequence[Series], mark: tuple[float, str] | None
) -> list[list[tuple[str, str]]]:
    """Label and classes of each entry, in lines as wide as the plot."""
    entries = [(one.label, _classes(one, place)) for place, one in enumerate(series)]
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for label, classes in entries + ([(mark[1], "mark")] if mark else []):
        width = 36 + LETTER * len(label)
        if lines[-1] and used + width > WIDTH:
            lines.append([])
            used = 0.0
        lines[-1].append((label, classes))
        used += width
    return lines


def _number(value: float | None, digits: int) -> str:
    known = value is not None and math.isfinite(value)
    return numbers.minus(f"{value:.{digits}f}") if known else "–"


def _tick(value: float) -> str:
    return numbers.minus(f"{round(value, 9) + 0.0:g}")


def _fit(label: str, longest: int = 36) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"


def _x_axis(root: ET.Element, axis: Axis, bottom: float, label: str, top: float) -> None:
    for tick in axis.ticks:
        _line(root, "grid", axis(tick), top, axis(tick), bottom)
        _text(root, axis(tick), bottom + 15, _tick(tick), "middle", "tick")
    _text(root, (axis.start + axis.end) / 2, bottom + 32, label, "middle", "tick")


def _root(title: str, height: float) -> ET.Element:
    box = f"0 0 {WIDTH:g} {height:g}"
    return ET.Element("svg", {"class": "plot", "viewBox": box, "role": "img", "aria-label": title})


def _sub(parent: ET.Element, name: str, attributes: dict[str, str] | None = None) -> ET.Element:
    return ET.SubElement(parent, name, attributes or {})


def _line(parent: ET.Element, name: str, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": str(x1), "y1": str(y1), "x2": str(x2), "y2": str(y2)}
    _sub(parent, "line", {"class": name, **ends})


def _text(
    parent: ET.Element,
    x: float,
    y: float,
    text: str,
    anchor: str,
    name: str = "",
    transform: str = "",
) -> None:
    attributes = {"x": str(x), "y": str(y), "text-anchor": anchor}
    attributes |= {"class": name} if name else {}
    attributes |= {"transform": transform} if transform else {}
    _sub(parent, "text", attributes).text = text


def _opaque(row: ET.Element, end: float, y: float, text: str) -> None:
    """A text on a background, because the zero line would turn a minus into a plus."""
    width = WIDEST * len(text)
    box = {"x": str(end - width), "y": str(y - 11), "width": str(width), "height": "14"}
    _sub(row, "rect", {"class": "under", **box})
    _text(row, end, y, text, "end")


def _markup(root: ET.Element) -> Markup:
    return Markup(ET.tostring(root, encoding="unicode"))
