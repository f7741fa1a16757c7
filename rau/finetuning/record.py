"""The folder that fine-tuning writes: which towers it trained, and whether it is whole."""

import shutil
from pathlib import Path

from rau.errors import UserError
from rau.files import digest_files, new_folder, write_json
from rau.params import Section, TrainParams

ENCODER, HISTORY, RECORD = "encoder", "history.csv", "finetuning.json"
MAX_BYTES = 1 << 16


class Record(Section):
    """What the other files of the folder are.

    Attributes:
        towers: that were trained; `none` where there is no other file.
        holdout, holdout_seed: of the train queries that the towers were not trained on.
        key: of all that they depend on.
        files: digest of their contents.
    """

    towers: str
    holdout: float = 0.0
    holdout_seed: int = 0
    key: str = ""
    files: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """Read a folder's record.

        Raises:
            UserError: when it is missing or malformed.
        """
        return cls.read_json(folder / RECORD, MAX_BYTES, "run `python -m pipeline.finetune`")


def _digest(folder: Path) -> str:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return digest_files(sorted(files))


def write(folder: Path, towers: str, key: str, train: TrainParams) -> None:
    """Write the record of a folder whose other files are in place.

    Args:
        train: what the holdout was drawn with.
    """
    found = Record(
        towers=towers,
        holdout=train.holdout,
        holdout_seed=train.split_seed,
        key=key,
        files=_digest(folder),
    )
    write_json(folder / RECORD, found.model_dump())


def pass_on(folder: Path) -> None:
    """Write only a record: the encoder stays as it is."""
    with new_folder(folder) as temporary:
        write_json(temporary / RECORD, Record(towers="none").model_dump())


def is_whole(folder: Path, key: str) -> bool:
    """Whether a folder holds what was written with this key, to the last byte."""
    try:
        found = Record.read(folder)
    except UserError:
        return False
    return found.key == key and found.files == _digest(folder)


def take(kept: Path, folder: Path) -> None:
    """Copy a folder, whole or not at all."""
    with new_folder(folder) as temporary:
        shutil.copytree(kept, temporary, dirs_exist_ok=True)
