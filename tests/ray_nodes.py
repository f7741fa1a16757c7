"""A Ray cluster of several nodes on this machine, and what may happen to it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import psutil

from rau.cluster import QUIET

STORE_BYTES = 100_000_000
WAIT_SECONDS = 300


@contextmanager
def cluster(workers: int = 2) -> Iterator[Any]:
    """Yield a cluster with a head of no cores and so many workers of one; RAY_ADDRESS names it."""
    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    node = {"object_store_memory": STORE_BYTES}
    found = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = found.address
    try:
        for _ in range(workers):
            found.add_node(num_cpus=1, **node)
        yield found
    finally:
        if before is None:
            del os.environ["RAY_ADDRESS"]
        else:
            os.environ["RAY_ADDRESS"] = before
        found.shutdown()


def wait_for_work(nodes: Any) -> None:
    """Return once a process is at work."""
    for _ in range(10 * WAIT_SECONDS):
        if at_work(nodes):
            return
        time.sleep(0.1)
    raise AssertionError("no worker was at work")


def at_work(nodes: Any) -> list[psutil.Process]:
    """The processes of the workers that have a job now."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes.worker_nodes]
    found = []
    for worker in (child for pid in raylets for child in psutil.Process(pid).children()):
        with suppress(psutil.NoSuchProcess):  # It may have ended meanwhile, or be a zombie.
            if "Worker.work" in " ".join(worker.cmdline()):
                found.append(worker)
    return found


def kill_a_worker(nodes: Any, rng: Random) -> None:
    """Kill any one of the processes that are at work; none where none is."""
    if busy := at_work(nodes):
        with suppress(psutil.NoSuchProcess):
            rng.choice(busy).kill()


def kill_a_machine(nodes: Any, rng: Random) -> None:
    """End any one node with all of its processes; another one joins."""
    chosen = rng.choice(sorted(nodes.worker_nodes, key=id))
    nodes.remove_node(chosen, allow_graceful=False)
    nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
