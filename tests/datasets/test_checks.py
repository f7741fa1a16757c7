"""What a data set lacks is said before anything is encoded."""

import pytest

from rau.datasets.annotations import Annotations
from rau.datasets.checks import check
from rau.errors import UserError
from rau.schemas import QueryRow


def query(split: str, reference: str, target: str, caption: str = "red") -> QueryRow:
    return {
        "query_id": f"{split}-{reference}-{target}",
        "split": split,
        "category": "dress",
        "reference_id": reference,
        "target_id": target,
        "captions": [caption],
        "members": None,
        "relevant": None,
    }


TRAIN = [query("train", "T", target) for target in "UVW"]
VAL = query("val", "A", "B")


def found(*queries: QueryRow) -> Annotations:
    galleries = {"original": {"dress": ["A", "B", "C"]}, "val-union": {"dress": ["A", "B"]}}
    return Annotations({}, list(queries), galleries, lambda image_id: [image_id])


def test_nothing_to_say() -> None:
    assert check(found(*TRAIN, VAL), set()) == []


def test_no_val_queries() -> None:
    with pytest.raises(UserError, match="no val queries"):
        check(found(*TRAIN), set())


def test_too_few_train_queries_with_images() -> None:
    (note,) = check(found(*TRAIN, VAL), {"W"})
    assert note.startswith("2 train queries have their images, fewer than training requires; set")


@pytest.mark.parametrize(("gone", "name"), [("AB", "val-union"), ("ABC", "original")])
def test_a_category_without_pictures(gone: str, name: str) -> None:
    with pytest.raises(UserError, match=f"no image in dress's gallery \\({name}\\) can be used"):
        check(found(*TRAIN, VAL), set(gone))


def test_a_hidden_split_may_lack_its_images() -> None:
    one = found(*TRAIN, VAL)
    one.galleries["test1"] = {"dress": ["Y", "Z"]}
    assert check(one, {"Y", "Z"}) == []


def test_what_changes_the_numbers_is_said() -> None:
    assert check(found(*TRAIN, VAL), {"A"}) == ["none of the 1 val queries of dress has its images"]
    own, silent = query("val", "A", "A"), query("train", "T", "U", " ,.")
    notes = check(found(*TRAIN, VAL, own, silent), set())
    assert notes == [
        "1 queries have their reference as target: they are misses under every protocol that "
        "removes the reference",
        "1 queries have only empty captions",
    ]
