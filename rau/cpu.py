"""The cores of this machine, and the threads of torch that share them."""

import os


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_jobs() -> int:
    """Number of experiments that DVC's queue runs at the same time, this one included.

    Every worker of `dvc queue start -j N` is a process from the start; a stage that no worker
    started runs alone.
    """
    import psutil

    def is_worker(process: psutil.Process) -> bool:
        try:
            return "queue-worker" in process.cmdline()
        except psutil.Error:
            return False

    if not any(is_worker(parent) for parent in psutil.Process().parents()):
        return 1
    workers = [p for p in psutil.process_iter() if is_worker(p)]
    ids = {p.pid for p in workers}
    return max(1, sum(p.ppid() not in ids for p in workers))


def limit_threads(threads: int, processes: int = 1) -> int:
    """Set torch's threads; 0 shares the cores among parallel jobs of so many processes each.

    Returns the number.
    """
    import torch

    number = threads or max(1, cores() // (parallel_jobs() * processes))
    torch.set_num_threads(number)
    return number
