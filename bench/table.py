"""The results as Markdown tables in docs/performance.md."""

from itertools import groupby
from typing import Any

from bench.harness import Result

HEADER = ("case", "figure", "limit", "floor", "time", "time of floor")
# From this load of other processes on, times say little and ratios are less reliable.
BUSY = 0.5


def lines(results: list[Result]) -> list[str]:
    """Format results as a Markdown table, one row per result."""
    rows = [HEADER, ["---"] * len(HEADER), *map(_row, results)]
    return [f"| {' | '.join(row)} |" for row in rows]


def inserted(page: str, device: str, groups: dict[str, dict[str, Any]]) -> str:
    """Return the page with machine, versions and results between the device type's markers.

    Consecutive groups that were measured under the same conditions share a table.

    Raises:
        ValueError: if the page has no such markers.
    """
    start, end = f"<!-- table: {device} -->\n", "<!-- end -->"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no line {start.strip()} followed by {end}")
    written = []
    for about, documents in groupby(groups.values(), _about):
        results = [Result(**result) for one in documents for result in one["results"]]
        written += [about, "", *lines(results), ""]
    return "\n".join([before + start, *written, end + after])


def _about(document: dict[str, Any]) -> str:
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    busy = f", busy with a load of {machine['load']}" if machine.get("load", 0) >= BUSY else ""
    scale = document.get("scale", 1)
    sizes = "" if scale == 1 else f" Sizes are {scale:g} of the usual ones."
    return (
        f"{machine['processor']}, {machine['threads']} threads{busy}, {machine['system']}; "
        f"{versions}.{sizes}"
    )


def _row(result: Result) -> list[str]:
    limit = "" if result.limit is None else f"≤ {_figure(result.limit, result.unit)}"
    return [
        f"`{result.name}`",
        _figure(result.value, result.unit),
        f"{limit}, exceeded" if result.exceeded else limit,
        result.floor,
        _time(result.seconds),
        _time(result.floor_seconds),
    ]


def _figure(value: float, unit: str) -> str:
    if unit == "s":
        return _time(value)
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    return {"x": f"{value:.2f} ×", "/s": f"{value:.1f} /s"}.get(unit, f"{value:.3g}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
