"""Figures as a Markdown table."""

from typing import Any

HEADER = ("case", "figure", "wanted", "relative to", "seconds (floor)")


def lines(document: dict[str, Any]) -> list[str]:
    """One line a figure of what `python -m bench` wrote."""
    rows = [_row(result) for group in document["groups"].values() for result in group["results"]]
    return [_join(HEADER), _join(["---"] * len(HEADER)), *map(_join, rows)]


def inserted(page: str, device: str, document: dict[str, Any]) -> str:
    """The page with the table in its place for a kind of device.

    Raises:
        ValueError: when the page has no such place.
    """
    start, end = f"<!-- table: {device} -->\n", "<!-- end -->"
    before, found, rest = page.partition(start)
    if not found:
        raise ValueError(f"the page has no line {start.strip()}")
    _, _, after = rest.partition(end)
    machine = next(iter(document["groups"].values()))["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    about = f"{machine['gpu'] or machine['cpu']}, {machine['threads']} threads; {versions}."
    return "".join([before, start, "\n".join(["", about, "", *lines(document), "", end]), after])


def _join(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _row(result: dict[str, Any]) -> list[str]:
    wanted = ""
    if result["limit"] is not None:
        sign = "≤" if result["sense"] == "at most" else "≥"
        wanted = f"{sign} {_figure(result['limit'], result['unit'])}"
        wanted += "" if result["reached"] else ", missed"
    detail = result["detail"]
    seconds = ""
    if "seconds" in detail:
        seconds = f"{detail['seconds']:.3g}"
        if "floor_seconds" in detail:
            seconds += f" ({detail['floor_seconds']:.3g})"
    return [
        f"`{result['name']}`",
        _figure(result["value"], result["unit"]),
        wanted,
        result["floor"],
        seconds,
    ]


def _figure(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.3g} {'×' if unit == 'x' else unit}"
