"""Main memory of this process."""

import re
import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, in bytes."""
    # On Linux a process inherits ru_maxrss, so a large parent would be counted.
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return 1024 * int(peak[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
