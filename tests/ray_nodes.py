"""What may happen to the nodes of a Ray cluster."""

import time
from contextlib import suppress
from random import Random
from typing import Any

import psutil

from bench.ray_nodes import STORE_BYTES

WAIT_SECONDS = 300


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
