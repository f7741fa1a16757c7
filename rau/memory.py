"""Main memory of this process."""

import resource
import sys
from pathlib import Path


def _status_bytes(field: str) -> int | None:
    """A size of this process as Linux reports it: VmRSS now, VmHWM at its largest; else None."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, in bytes."""
    # On Linux a process inherits ru_maxrss: a large parent would be counted here.
    known = _status_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return known or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
