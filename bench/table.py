"""The figures as a Markdown table in docs/performance.md."""

from typing import Any

from bench.harness import Result

HEADER = ("case", "figure", "limit", "floor", "time", "time of floor")


def lines(results: list[Result]) -> list[str]:
    """Markdown, one row per result."""
    rows = [HEADER, ["---"] * len(HEADER), *map(_row, results)]
    return [f"| {' | '.join(row)} |" for row in rows]


def inserted(page: str, device: str, document: dict[str, Any]) -> str:
    """The page with machine, versions and table between the markers of the kind of device.

    Raises:
        ValueError: when the page has no such markers.
    """
    start, end = f"<!-- table: {device} -->\n", "<!-- end -->"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no line {start.strip()} followed by {end}")
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    about = (
        f"{machine['processor']}, {machine['threads']} threads, {machine['system']}; {versions}."
    )
    results = [Result(**result) for result in document["results"]]
    return "\n".join([before + start, about, "", *lines(results), "", end + after])


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
    return f"{value / 2**20:,.0f} MiB" if unit == "bytes" else f"{value:.2f} ×"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
