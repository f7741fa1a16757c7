"""Atomic writes (a file is complete or absent), bounded reads, and digests of files."""

import errno
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from rau.errors import UserError

ABANDONED_SECONDS = 3600
MAX_JSON_BYTES = 1 << 28
# Errors of a mounted object store or file server under load, and the waits between retries.
PASSING = {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ETIMEDOUT, errno.ESTALE}
WAITS = (1.0, 4.0, 25.0)
T = TypeVar("T")


@contextmanager
def atomic_path(path: Path, tidy: bool = True) -> Iterator[Path]:
    """Yield a temporary file next to `path`; rename it to `path` only if the block succeeds.

    Args:
        tidy: remove what killed runs left of `path`. This lists the folder, so that to write very
            many files to one takes quadratic time: who does removes `abandoned` ones once.

    Raises:
        UserError: when the disk is full or the folder cannot be written.
        OSError: of another file, which the block reads.
    """
    make_folder(path.parent)
    try:
        for old in old_siblings(path, ".tmp") if tidy else ():
            old.unlink(missing_ok=True)
        handle, name = patiently(
            lambda: tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        )
        os.close(handle)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free space or use another disk"
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        patiently(lambda: temporary.replace(path))
    except OSError as error:
        if error.filename not in (None, str(temporary)) and error.filename2 is None:
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder if it does not exist.

    Raises:
        UserError: when a file is in the way, or the disk is full or not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(p for p in (folder, *folder.parents) if p.is_symlink() or p.exists())
        raise UserError(f"{file} is a file, not a folder; choose another path") from error
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror}; free space or use another disk"
        ) from error


def old_siblings(path: Path, suffix: str) -> list[Path]:
    """Temporary files of `path` left by a killed run; recent ones may belong to another process."""
    return abandoned(path.parent.glob(f".{glob.escape(path.name)}.*{suffix}"))


def abandoned(paths: Iterable[Path]) -> list[Path]:
    """Temporary files that are old; recent ones may belong to another process."""
    return [path for path in paths if _age(path) > ABANDONED_SECONDS]


def _age(path: Path) -> float:
    """Seconds since a file was written; 0 if another process has just removed it."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def write_bytes(path: Path, data: bytes, tidy: bool = True) -> None:
    """Write `data` to `path`, completely or not at all; `tidy` as in `atomic_path`."""
    with atomic_path(path, tidy) as temporary:
        patiently(lambda: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, completely or not at all."""
    write_bytes(path, text.encode())


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines as they come, completely or not at all; returns their number."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(f"{line}\n")
            count += 1
    return count


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a stable order of keys."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def patiently(work: Callable[[], T]) -> T:
    """Call `work`, again while a network file system throttles or loses its connection.

    Args:
        work: reads or writes a file; it may be called several times.

    Raises:
        OSError: any other error, or when the problem persists for half a minute.
    """
    for seconds in WAITS:
        try:
            return work()
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(seconds)
    return work()


def read_at_most(path: Path, limit: int, pipe: bool = False) -> bytes | None:
    """The content of a file; None if it is larger than `limit` bytes.

    Args:
        pipe: whether to also read a pipe, waiting for its writer.

    Raises:
        OSError: when it cannot be read, or is a pipe, a device or a socket, which may have no end.
    """
    found = patiently(path.stat)
    kind = stat.S_IFMT(found.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR) and not (pipe and kind == stat.S_IFIFO):
        raise OSError(errno.EINVAL, "not a regular file", str(path))

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(limit + 1)  # The size may be out of date or unreported.

    content = patiently(read) if found.st_size <= limit else None
    return None if content is None or len(content) > limit else content


def read_bytes(path: Path, limit: int, remedy: str, pipe: bool = False) -> bytes:
    """The content of a file, or of a pipe as in `read_at_most`; errors end with the remedy.

    Raises:
        UserError: when it is missing, cannot be read, or is larger than `limit` bytes.
    """
    try:
        content = read_at_most(path, limit, pipe)
        if content is None:
            raise UserError(f"{path} is larger than {limit} bytes; {remedy}")
        return content
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {remedy}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {remedy}") from error


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: when it is missing, truncated, not JSON, not Unicode or larger than 256 MiB.
    """
    content = read_bytes(path, MAX_JSON_BYTES, f"check the {what}")
    try:
        # From bytes, json detects UTF-8 and UTF-16 itself, with or without a byte order mark.
        value = json.loads(content)
        # An escaped lone surrogate is valid JSON but not valid Unicode.
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        # Includes a number with thousands of digits.
        raise UserError(f"{what} {path} is not valid JSON ({error}); fetch it again") from error


def as_text(path: str) -> str:
    """A path as text: bytes of a name that are not UTF-8 are escaped, as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def walk(root: Path, unread: dict[Path, str] | None = None) -> Iterator[tuple[Path, list[str]]]:
    """`root` and all folders below it with the names of their files, without hidden ones.

    Links to folders are followed; a folder that is reachable by several paths is returned once.

    Args:
        unread: filled with the folders that cannot be read, and the reasons.
    """

    def note(error: OSError) -> None:
        if unread is not None and error.errno != errno.ENOENT:  # Removed meanwhile.
            unread[Path(error.filename)] = error.strerror or str(error)

    seen: set[Path] = set()
    for place, below, names in os.walk(root, followlinks=True, onerror=note):
        folder = Path(place)
        if (real := folder.resolve()) in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield folder, sorted(name for name in names if not name.startswith("."))


def shown(folder: Path, pattern: str) -> list[Path]:
    """The paths in a folder that match a pattern, sorted, without hidden ones: other systems leave
    files such as `._a.csv` next to `a.csv`."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def parquet_files(folder: Path, name: str) -> list[Path]:
    """The Parquet files of a table in a folder, sorted; empty if there are none.

    A table is `<name>.parquet`, a folder of that name or of the name `<name>` with Parquet files,
    or several files `<name>-….parquet`. Hidden files are left out.
    """
    single = folder / f"{name}.parquet"
    if single.is_file():
        return [single]
    for place, names in ((single, "*"), (folder / name, "*"), (folder, f"{name}-*")):
        if found := [path for path in shown(place, f"{names}.parquet") if path.is_file()]:
            return found
    return []


def user_path(path: str, base: Path, key: str) -> Path:
    """Resolve a path given by the user: absolute, from a home folder, or relative to `base`.

    Args:
        key: name of the parameter, for the error message.

    Raises:
        UserError: when it is in the home folder of a user who does not exist.
    """
    try:
        return base / Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{key}={path}: no such home folder; write the full path") from error


def digest(value: Any, length: int = 8) -> str:
    """Hexadecimal SHA-256 of a JSON-like value, truncated to `length` digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def digest_sources(root: Path, names: Iterable[str]) -> str:
    """SHA-256 of Python files, to detect results of older code.

    Args:
        root: folder that the names are relative to.
        names: files, or folders with all files below them.
    """
    total = hashlib.sha256()
    for name in names:
        place = root / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""

    def read() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return patiently(read)


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of files, in the order given."""
    digests = b"".join(bytes.fromhex(digest_file(path)) for path in paths)
    return hashlib.sha256(digests).hexdigest()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if the block succeeds."""
    make_folder(folder.parent)
    for old in old_siblings(folder, ""):
        shutil.rmtree(old, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {folder}: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
