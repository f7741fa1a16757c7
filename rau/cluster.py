"""A Ray cluster: the one named by RAY_ADDRESS or running on this machine, otherwise a temporary
one."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from rau.errors import UserError

# Without these, set before the import, Ray sends usage statistics, warns about a variable that it
# sets itself, and prints a paragraph for every worker that dies and every error that is not read.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
}
REMEDY = (
    "start a cluster with `ray start --head`, set RAY_AUTH_MODE=token if it requires a token, or "
    "unset RAY_ADDRESS"
)
ANSWER_SECONDS = 10


@contextmanager
def connected(parameter: str) -> Iterator[ModuleType]:
    """Yield `ray`, connected to a cluster; this installation's `rau` is sent to the workers.

    Files are not sent: every node must find them at the same absolute paths.

    Args:
        parameter: name of the parameter that requested Ray, for error messages.

    Raises:
        UserError: when Ray is not installed, or no cluster answers at RAY_ADDRESS.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        import ray
    except ImportError as error:
        raise UserError(f"{parameter}=ray needs Ray: pip install 'rau[ray]'") from error
    if address := os.environ.get("RAY_ADDRESS"):
        _check_answers(address, parameter)
    package = str(Path(__file__).resolve().parent)
    try:
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"py_modules": [package]},
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        # The cause of "Failed to set up runtime environment." is a full disk, for example.
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"{parameter}=ray: cannot start or reach Ray ({reason}); {REMEDY}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str, parameter: str) -> None:
    """Refuse an address where nothing listens: Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # `auto` or `local`: Ray finds one or starts it.
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{parameter}=ray: no answer at {address} ({reason}); {REMEDY}") from error
