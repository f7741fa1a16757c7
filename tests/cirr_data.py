"""A small CIRR in its real form."""

import json
import shutil
from pathlib import Path


def write(root: Path, pictures: list[Path]) -> None:
    """A small folder in CIRR's layout: three splits of six-image sets, one query an image."""
    for folder in ("captions", "image_splits", "img_raw"):
        (root / folder).mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test1")):
        names = [f"{split}-{i}-0-img0" for i in range(72)]
        for name, picture in zip(names, pictures[72 * number :], strict=False):
            shutil.copy(picture, root / "img_raw" / f"{name}.png")
        entries = []
        for i, reference in enumerate(names):
            members = names[i - i % 6 : i - i % 6 + 6]
            target = members[(i + 1) % 6]
            entry = {"pairid": 100 * number + i, "reference": reference, "caption": f"like {i % 6}"}
            entry["img_set"] = {"id": i // 6, "members": members}
            entries.append(entry if split == "test1" else entry | {"target_hard": target})
        (root / f"captions/cap.rc2.{split}.json").write_text(json.dumps(entries))
        paths = {name: f"./{name}.png" for name in names}
        (root / f"image_splits/split.rc2.{split}.json").write_text(json.dumps(paths))
