"""Results of a git revision or a DVC experiment, from the main checkout's cache."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rau import plain_yaml
from rau.errors import UserError
from rau.project import workspace


def unknown(name: str, kind: str) -> UserError:
    """The error for a name that is not a file or folder of this kind, a run or a revision."""
    return UserError(
        f"{name}: no {kind}, no MLflow run id, no DVC experiment and no git revision of this "
        "project has this name; see `dvc exp show` and the MLflow page"
    )


@dataclass(frozen=True)
class Revision:
    """Files of a revision; every method raises `UserError` if DVC cannot read them."""

    name: str
    files: Any

    @classmethod
    def find(cls, name: str) -> Self | None:
        """Find the revision with this name; None if there is none.

        Raises:
            UserError: when DVC cannot read it.
        """
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.scm import SCMError

        try:
            files = DVCFileSystem(str(workspace.main_checkout()), rev=name)
            _ = files.repo  # The first access opens the repository and looks up the name.
            return cls(name, files)
        except (SCMError, NotDvcRepoError):
            return None
        except DvcException as error:
            raise UserError(f"{name}: DVC cannot read it ({error})") from error

    def dataset(self) -> str:
        """The data set in the revision's parameters, else that of the working folder."""
        try:
            content = self.files.cat_file("params.yaml")
            values = plain_yaml.parse(content, f"{self.name}: its params.yaml")
            return str(values["dataset"]["name"])
        except (FileNotFoundError, KeyError, TypeError):
            return workspace.load_params().dataset.name

    def file(self, path: Path, into: Path) -> Path:
        """Get a file with the content of `path` in the revision: in the cache, or a copy in `into`.

        Raises:
            UserError: also when the revision has no such file, or the cache does not contain it.
        """
        from dvc.exceptions import DvcException

        try:
            info = self.files.info(path.as_posix())
            if "md5" not in info:
                self.files.get_file(path.as_posix(), str(into / path.name))
                return into / path.name
        except FileNotFoundError as error:
            raise UserError(
                f"{self.name}: no {path} there; run `dvc repro` there and commit"
            ) from error
        except DvcException as error:
            raise UserError(f"{self.name}: DVC cannot read {path} ({error})") from error
        # DVC would query a remote too; the cache needs no network.
        cached = Path(self.files.repo.cache.local.oid_to_path(info["md5"]))
        if not cached.is_file():
            raise UserError(
                f"{self.name}: its {path} is not in DVC's cache; run `dvc fetch`, or the "
                "experiment again"
            )
        return cached

    def folder(self, path: Path, into: Path) -> Path:
        """Copy a folder of the revision to `into`; errors as in `file`."""
        from dvc.exceptions import DvcException

        try:
            names = self.files.find(path.as_posix())
        except (DvcException, FileNotFoundError):
            names = []
        if not names:
            raise UserError(f"{self.name}: no {path} there; run `dvc repro` there and commit")
        copy = into / path
        for name in names:
            place = into / name.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            found = self.file(Path(name), place.parent)
            if found != place:
                shutil.copy(found, place)
        return copy
