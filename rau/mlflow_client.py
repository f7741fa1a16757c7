"""MLflow's client with a limit on the time of every call, and errors without credentials."""

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from rau.errors import UserError

SQLITE = "sqlite:///"
# Timeout of a call in seconds, to which bytes / SLOWEST is added for a transfer.
DEADLINE = 20
SLOWEST = 100_000
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


class TrackingUnavailable(Exception):
    """The MLflow store does not respond or cannot be used; the run can be tracked later."""


class NotFound(TrackingUnavailable):
    """The store, or the run in it, does not exist."""


class Client:
    """MLflow's client, whose calls have a timeout and fail with `TrackingUnavailable`, or with
    `UserError` if MLflow refuses a name or a value.

    Each takes the additional argument `size`, the number of bytes it transfers.
    """

    def __init__(self, uri: str) -> None:
        database = database_file(uri)
        if database and not database.exists():
            raise NotFound(f"no database {database}")  # MLflow would create an empty one
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.uri, self._local, self._client = uri, database is not None, None
        try:
            self._client = self._call(MlflowClient, uri)
        except ValueError:  # Raised by parsers; its text can contain part of a password.
            raise TrackingUnavailable(
                shown(f"MLflow at {uri} cannot be used (not a valid address)")
            ) from None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, getattr(self._client, name))

    def _call(self, method: Callable[..., Any], *args: Any, size: int = 0, **named: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        call = partial(method, *args, **named)
        try:
            return call() if self._local else _within(DEADLINE + size / SLOWEST, call)
        # An ImportError comes from a missing database driver.
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            code = getattr(error, "error_code", "")
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            if code == "INVALID_PARAMETER_VALUE" and self._client is not None:
                # Not the store, but a name or a value, which the user may have given.
                refused = f"MLflow refuses a name or a value ({reason}); choose another"
                raise UserError(shown(refused)) from None
            silent = code == "INTERNAL_ERROR" or isinstance(error, TimeoutError)
            verb = "does not answer" if silent and not self._local else "cannot be used"
            kind = NotFound if code == "RESOURCE_DOES_NOT_EXIST" else TrackingUnavailable
            # Not `from error`: its text can contain a password.
            raise kind(shown(f"MLflow at {self.uri} {verb} ({reason})")) from None


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call, or TimeoutError: a socket's timeout restarts with every byte."""
    result: Future[Any] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return result.result(seconds)


def store_uri(root: Path) -> str:
    """The store named by the environment, by default the database in `root`; absolute."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    return f"{SQLITE}{root / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


def shown(text: str) -> str:
    """The text without the credentials of URIs."""
    text = re.sub(r"//(?:[^/\s]*|[^/:\s]*:\S*)@", "//", text)
    secret = "pass|pwd|secret|token|key|credential|signature"
    return re.sub(rf"(?i)([?&]\w*(?:{secret})\w*=)[^&\s]*", r"\1***", text)


def database_file(uri: str) -> Path | None:
    """The file of a local database; None for a server."""
    return Path(uri.removeprefix(SQLITE).split("?")[0]) if uri.startswith(SQLITE) else None
