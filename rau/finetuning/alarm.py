"""Of several processes all end when one fails, and that one alone says why."""

import atexit
import os
import threading
import time
from contextlib import suppress

from torch.distributed.distributed_c10d import Store

LOOK = 0.3  # seconds between two looks at the store
PATIENCE = 10.0  # seconds that a process which failed waits for the others to end


class Alarm:
    """Ends this process when another one fails, and the others when this one does.

    A process that waits for another in the middle of a collective hears nothing. So a thread of
    each looks at the store by which the processes found each other.
    """

    def __init__(self, store: Store, rank: int, count: int) -> None:
        """Args: the store, the number of this process and that of all."""
        self._store, self._others = store, count - 1
        # Whoever started this program waits for the first process. Of the others only the one that
        # failed may say so: a launcher kills all at once, and with them that one's last words.
        self._code = 1 if rank == 0 else 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self, failed: bool) -> None:
        """Tell how this process's part ended. Does not return if another one failed before."""
        with suppress(RuntimeError):  # The store is gone with the process that held it.
            if failed and self._store.add("failed", 1) > 1:
                time.sleep(PATIENCE)  # The watch ends it, once the other has said why.
                os._exit(self._code)
            if not failed:
                self._store.add("ended", 1)
        self._over.set()
        self._thread.join()  # In the middle of a call it would crash Python's end.
        if failed:
            atexit.register(self._tell)  # After its error was printed.

    def _tell(self) -> None:
        with suppress(RuntimeError):
            self._store.set("told", "1")
            last = time.monotonic() + PATIENCE
            while self._store.add("ended", 0) < self._others and time.monotonic() < last:
                time.sleep(LOOK / 10)
        time.sleep(LOOK)  # The store may end with this process: others read its answers first.

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            try:
                if not self._store.check(["told"]):
                    continue
                self._store.add("ended", 1)
                time.sleep(LOOK)
            except RuntimeError:  # The process that held it was killed.
                pass
            os._exit(self._code)
