"""Progress bars on a terminal alone, so that no log has their carriage returns."""

from typing import TYPE_CHECKING, Any

from tqdm import tqdm as _tqdm

if TYPE_CHECKING:
    tqdm = _tqdm
else:

    class tqdm(_tqdm):
        """tqdm's bar, hidden where stderr is no terminal."""

        def __init__(self, *args: Any, disable: bool = False, **options: Any) -> None:
            super().__init__(*args, disable=disable or None, **options)
