"""The page's address, read by its own module."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rau.service.app import STATIC

NODE = shutil.which("node")
SCRIPT = """
import { read, request, write } from "./address.mjs";
const known = [
  { attribute: "constructor", kind: "text", values: ["a", "b"] },
  { attribute: "__proto__", kind: "number", low: 0, high: 1 },
];
for (const address of ["?caption=x", "?caption=x&is.constructor=a&least.__proto__=0.5"]) {
  const asked = read(address, known);
  console.log(JSON.stringify([write(asked), request(asked, known).where]));
}
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_an_attribute_may_have_a_name_that_every_object_has(tmp_path: Path) -> None:
    shutil.copy(STATIC / "address.js", tmp_path / "address.mjs")
    (tmp_path / "test.mjs").write_text(SCRIPT)
    done = subprocess.run(
        [str(NODE), "test.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["/?caption=x", None],
        [
            "/?caption=x&is.constructor=a&least.__proto__=0.5",
            '("constructor" = \'a\') and "__proto__" >= 0.5',
        ],
    ]
