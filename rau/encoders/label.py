"""The label of an encoder's folder: what it holds, and the digest by which damage is found."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rau.errors import UserError
from rau.files import digest_files, new_folder, write_json
from rau.params import Section

LABEL = "rau_encoder.json"
REMEDY = "run the stage that wrote it again (`encoder`, or `finetune`)"


class Label(Section):
    """What the other files of an encoder's folder are, and the digest of their contents.

    `name` is `encoder.name`; `pretrained` says where the weights are from.
    """

    name: str
    pretrained: str | None
    files: str


def files_of(folder: Path) -> list[Path]:
    """All files of an encoder but its label, in the order of the digest."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LABEL)


def read_label(folder: Path) -> Label:
    """Read the label of an encoder's folder.

    Raises:
        UserError: when it is missing or malformed.
    """
    return Label.read_json(folder / LABEL, 1 << 16, REMEDY)


def read_whole(folder: Path) -> Label:
    """Read the label of a folder, all of whose files are as they were written.

    Raises:
        UserError: when any of them differs.
    """
    label = read_label(folder)
    if digest_files(files_of(folder)) != label.files:
        raise UserError(f"{folder} contains files other than those written; {REMEDY}")
    return label


def write_label(folder: Path, name: str, pretrained: str | None) -> None:
    """Write the label of an encoder whose other files are in place."""
    label = Label(name=name, pretrained=pretrained, files=digest_files(files_of(folder)))
    write_json(folder / LABEL, label.model_dump())


def mark_unused(folder: Path) -> None:
    """Write only a label: the features are precomputed."""
    with new_folder(folder) as temporary:
        write_label(temporary, "features.source", None)


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Say in one line what went wrong while a model of this folder was loaded in the block.

    Raises:
        UserError: a truncated safetensors file, a wrong shape, invalid JSON share no class.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"{folder} cannot be loaded ({said}); {REMEDY}") from error
