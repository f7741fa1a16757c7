"""A Ray cluster of several nodes on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rau.cluster import QUIET

STORE_BYTES = 100_000_000


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
