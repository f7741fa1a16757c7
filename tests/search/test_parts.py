"""Images that a build has encoded but not committed."""

from pathlib import Path

import numpy as np

from rau.search.parts import Parts


def test_what_other_systems_leave_in_the_folder_is_no_part(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "key")
    parts.add(["a"], np.ones((1, 2), np.float16), [b"thumbnail"])
    parts.flush()
    (written,) = (tmp_path / "key").iterdir()
    for left in (tmp_path / ".DS_Store", written.with_name(f"._{written.name}")):
        left.write_bytes(b"\0")
    again = Parts(tmp_path, "key")
    assert "a" in again.known
    assert [names for names, *_ in again] == [["a"]]
