"""The HTTP server: its socket, timeouts and shutdown."""

import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

import psutil
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from rau.errors import UserError

# Seconds that a client has to send the head of a request, and to read a response.
PATIENCE = 10.0
# Open connections, bytes of a request's head, seconds for running requests at shutdown.
MAX_CONNECTIONS, MAX_HEAD, GRACE = 512, 2**14, 5
# Errors that concern the port; all others concern the host.
OF_PORTS = {errno.EADDRINUSE, errno.EACCES, errno.EPERM}
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Patient(H11Protocol):
    """HTTP/1.1 that disconnects a client after `PATIENCE` seconds without a request or a read.

    uvicorn has no time limit for the rest of a request's head, nor for a client to read the rest
    of a response.
    """

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._answered: object = None
        self._timer = self.loop.call_later(PATIENCE, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Disconnect if no request has run since the last call."""
        if self.cycle is None or self.cycle.response_complete:
            if self._answered is self.cycle:
                self.transport.abort()
                return
            self._answered = self.cycle
        self._timer = self.loop.call_later(PATIENCE, self._look)


def is_loopback(host: str) -> bool:
    """Whether an address or host name is reachable only from this machine."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TypeError) as error:
        raise UserError(f"--host {host} is not an address of this machine") from error
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def names(host: str, others: Sequence[str]) -> list[str]:
    """Accepted host names of a service at `host`: those of this machine, and `others`."""
    found = {"localhost", "127.0.0.1", "[::1]"}
    if not is_loopback(host):
        found.add(socket.gethostname())
        for addresses in psutil.net_if_addrs().values():
            found |= {one.address for one in addresses if one.family == socket.AF_INET}
            found |= {f"[{one.address}]" for one in addresses if one.family == socket.AF_INET6}
    return sorted(found | {host, *others})


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 chooses a free port.

    Raises:
        UserError: when the port is in use or not permitted, or the host is not an address of this
            machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except (OSError, UnicodeError, TypeError) as error:  # For example of an invalid host name.
        if not isinstance(error, OSError) or error.errno not in OF_PORTS:
            raise UserError(f"--host {host} is not an address of this machine") from error
        # The error's own text repeats the address.
        reason = os.strerror(error.errno)
        raise UserError(f"cannot listen on {host}, port {port}: {reason}; change --port") from error


def configured(app: FastAPI) -> uvicorn.Server:
    """Create the server of an application; at shutdown, running requests have `GRACE` seconds."""
    config = uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def run(app: FastAPI, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    server = configured(app)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn has its own handlers only while it serves: a signal before that must not be lost, and
    # one that it raises again after its shutdown must not end the command with an error.
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        server.run([listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
