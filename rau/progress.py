"""Progress bars that are shown only on a terminal, to keep carriage returns out of logs."""

from typing import TYPE_CHECKING, Any

from tqdm import tqdm as _tqdm

if TYPE_CHECKING:
    tqdm = _tqdm
else:

    class tqdm(_tqdm):
        """tqdm's bar, hidden if stderr is not a terminal."""

        def __init__(self, *args: Any, disable: bool = False, **options: Any) -> None:
            super().__init__(*args, disable=disable or None, **options)
