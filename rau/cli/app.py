"""The application with all commands; each imports its dependencies when it runs."""

import typer

from rau import console
from rau.cli.compare import compare
from rau.cli.example import example
from rau.cli.export import export
from rau.cli.index import index
from rau.cli.search import search
from rau.cli.serve import serve
from rau.cli.submission import submission
from rau.cli.triplets import triplets

app = typer.Typer(
    name="rau",
    help="Composed image retrieval: search by an image and a caption that says how the result "
    "should differ.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (compare, example, export, index, search, serve, submission, triplets):
    app.command()(command)


def main() -> None:
    """Run the command given by the arguments."""
    console.run(app)
