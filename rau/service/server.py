"""The server: where it listens, how long it waits for a client, and how it ends."""

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

# Seconds that a client has for the head of a request, and for reading a response.
PATIENCE = 10.0
# Open connections, bytes of a request's head, seconds for running requests when told to stop.
MAX_CONNECTIONS, MAX_HEAD, GRACE = 512, 2**14, 5
# Errors of a port; all others of listening are of the host.
OF_PORTS = {errno.EADDRINUSE, errno.EACCES, errno.EPERM}
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Patient(H11Protocol):
    """HTTP/1.1 that leaves a client which has neither asked nor read for `PATIENCE` seconds.

    uvicorn itself waits for ever for the head of a request that has begun, and for a client to read
    the rest of a response.
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
        """Leave where no request has run since the last look."""
        if self.cycle is None or self.cycle.response_complete:
            if self._answered is self.cycle:
                self.transport.abort()
                return
            self._answered = self.cycle
        self._timer = self.loop.call_later(PATIENCE, self._look)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TypeError) as error:
        raise UserError(f"--host {host} is no address of this machine") from error
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def names(host: str, others: Sequence[str]) -> list[str]:
    """What a client may call a service that listens at `host`: this machine's own, and `others`."""
    found = {"localhost", "127.0.0.1", "[::1]"}
    if not is_loopback(host):
        found.add(socket.gethostname())
        for addresses in psutil.net_if_addrs().values():
            found |= {one.address for one in addresses if one.family == socket.AF_INET}
            found |= {f"[{one.address}]" for one in addresses if one.family == socket.AF_INET6}
    return sorted(found | {host, *others})


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
        UserError: when the port is taken or may not be used, or the host is no address of this
            machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except (OSError, UnicodeError, TypeError) as error:  # As of a name that is no text.
        if not isinstance(error, OSError) or error.errno not in OF_PORTS:
            raise UserError(f"--host {host} is no address of this machine") from error
        # Its own text says the address once more.
        reason = os.strerror(error.errno)
        raise UserError(f"cannot listen at {host}, port {port}: {reason}; give --port") from error


def configured(app: FastAPI) -> uvicorn.Server:
    """A server of an application; running requests have `GRACE` seconds when it is to stop."""
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
    # uvicorn raises a signal again once it has stopped: that would end the command with an error.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        configured(app).run([listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
