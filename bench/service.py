"""`rau serve` in a separate process: start time, and performance under continuous load."""

import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil

from bench.features import captions, image_items
from bench.harness import Bench, Result
from bench.random_index import names, random_index, random_model
from bench.search import ENCODER

PICTURES, CLIENTS = 100_000, (1, 8, 32)
START_LIMIT, GROWTH_LIMIT = 8.0, 32 * 2**20
CAPTIONS = 1000
ROOT = Path(__file__).parents[1]


class Load(NamedTuple):
    """Seconds per valid answer, number of errors, and memory growth of the service in bytes."""

    seconds: list[float]
    errors: int
    growth: int


def cases(
    bench: Bench, encoder: str = ENCODER, clients: Sequence[int] = CLIENTS
) -> Iterator[Result]:
    """Benchmark start time; throughput and latency by number of clients; errors and memory."""
    count = bench.size(PICTURES)
    file = Path(image_items(bench.scratch / "photo", 400, 600, 1)[0].content)
    index = random_index(bench.scratch / "index", random_model(bench, encoder), count, file)
    size = f"{count}x{index.manifest.dim}"
    starts = []
    for _ in range(bench.repeats - 1):
        with serving(index.folder, bench) as (_, _, start):
            starts.append(start)
    errors = growth = 0
    with serving(index.folder, bench) as (process, url, start):
        median = statistics.median([*starts, start])
        yield Result(f"service/start/{size}", median, "s", limit=START_LIMIT)
        for number in clients:
            load = asked(process, url, number, count, bench.load_seconds)
            name = f"service/{number} clients for {bench.load_seconds:g} s/{size}"
            yield Result(f"{name}/answers", len(load.seconds) / bench.load_seconds, "/s")
            for percent in (50, 99) if load.seconds else ():
                yield Result(f"{name}/p{percent}", float(np.percentile(load.seconds, percent)), "s")
            errors, growth = errors + load.errors, max(growth, load.growth)
    yield Result("service/errors", errors, "", limit=0)
    # Growth in the second half of a load.
    yield Result("service/growth of memory", growth, "bytes", limit=GROWTH_LIMIT)


@contextmanager
def serving(index: Path, bench: Bench) -> Iterator[tuple[psutil.Process, str, float]]:
    """Yield the process of a ready service, its address, and its start time in seconds."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "rau", "serve", "--index", str(index), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--device", bench.device.type], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        match = re.search(r"http://\S+", process.stdout.readline())
        if match is None:
            raise RuntimeError("rau serve did not start; see above")
        url = match[0]
        connection = _connected(url)
        # The service listens before it can answer; wait for its first answer.
        connection.request("GET", "/api/health")
        connection.getresponse().read()
        connection.close()
        yield psutil.Process(process.pid), url, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait()


def _connected(url: str) -> http.client.HTTPConnection:
    address = urlsplit(url)
    return http.client.HTTPConnection(str(address.hostname), address.port, timeout=120)


def asked(process: psutil.Process, url: str, clients: int, count: int, span: float) -> Load:
    """Let clients send requests for `span` seconds, each as soon as its last one is answered."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(_client, url, n, count, start + span) for n in range(clients)]
        time.sleep(span / 2)
        before = process.memory_info().rss
        found = [one.result() for one in running]
    growth = process.memory_info().rss - before
    return Load([t for times, _ in found for t in times], sum(e for _, e in found), growth)


def _client(url: str, number: int, count: int, until: float) -> tuple[list[float], int]:
    rng, connection = random.Random(number), _connected(url)
    ids, texts = names(count), captions(CAPTIONS)
    times, errors = [], 0
    while (start := time.perf_counter()) < until:
        question = {"references": [rng.choice(ids)], "caption": rng.choice(texts), "k": 10}
        headers = {"Content-Type": "application/json"}
        try:
            connection.request("POST", "/api/search", json.dumps(question), headers)
            answer = connection.getresponse()
            right = answer.status == 200 and len(json.loads(answer.read())["hits"]) > 0
        except (OSError, http.client.HTTPException):
            connection.close()
            right = False
        if right:
            times.append(time.perf_counter() - start)
        errors += not right
    connection.close()
    return times, errors
