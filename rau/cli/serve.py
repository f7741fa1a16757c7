"""`rau serve`: serve an index over HTTP, with a search page."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rau.cli.options import Device, IndexFolder, TrustRemoteCode
from rau.errors import UserError

MIN_TOKEN, MAX_TOKEN_BYTES = 16, 1024


def serve(
    *,
    index: IndexFolder,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0 chooses a free one")] = 8000,
    feedback: Annotated[
        Path | None,
        typer.Option(help="folder to store feedback in, as <dataset.root>/feedback"),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="file or pipe with the token that feedback requires")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="additional host name of the service; can be repeated")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="number of concurrent searches")] = 2,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Serve an index until Ctrl-C: a search page, an API, and feedback stored for training."""
    try:
        from rau.service import server
    except ImportError as error:
        raise UserError("rau serve needs more packages: pip install 'rau[serve]'") from error
    if feedback and not token_file and not server.is_loopback(host):
        raise UserError(
            f"--host {host} lets other machines send feedback; give --token-file, or omit "
            "--feedback"
        )
    token = _token(token_file) if token_file else None

    from rau import cpu, devices
    from rau.console import printable
    from rau.service.app import create
    from rau.service.feedback import Feedback, read_by
    from rau.service.live import Live

    listening = server.listen(host, port)
    # Threads of each search; all searches together use each core once.
    cpu.limit_threads(max(1, cpu.cores() // threads))
    live = Live(index, devices.choose(device, "--device"), trust_remote_code)
    kept = Feedback(feedback) if feedback else None
    app = create(live, server.names(host, name or ()), threads, feedback=kept, token=token)
    address = f"[{host}]" if ":" in host else host
    print(f"serving {index} at http://{address}:{listening.getsockname()[1]} (Ctrl-C stops it)")
    if feedback:
        print(printable(read_by(feedback, live.now.searcher.index.manifest.source)))
    sys.stdout.flush()  # In a file or a pipe, the address would only appear at the end.
    server.run(app, listening)


def _token(path: Path) -> str:
    """Read the token from a file or a pipe such as `<(pass show rau)`.

    Raises:
        UserError: when it is missing, too short to be secret, or not permitted in a header.
    """
    from rau.files import read_bytes

    found = read_bytes(path, MAX_TOKEN_BYTES, "write a token to it", pipe=True).strip()
    if len(found) < MIN_TOKEN or not all(33 <= byte <= 126 for byte in found):
        raise UserError(
            f"{path} must contain one word of at least {MIN_TOKEN} ASCII characters; "
            "make one with `openssl rand -hex 32`"
        )
    return found.decode()
