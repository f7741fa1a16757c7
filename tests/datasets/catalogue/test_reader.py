"""Queries of a catalogue: what they ask, what answers them, and which side they are on."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rau.datasets.catalogue import products
from rau.datasets.catalogue.attributes import Labels, Numbers, Sets
from rau.datasets.catalogue.captions import KINDS, TWO, VAGUE
from rau.datasets.catalogue.people import read as read_people
from rau.datasets.catalogue.products import Products
from rau.datasets.catalogue.reader import PEOPLE, Catalogue, CatalogueReader
from rau.datasets.catalogue.relevance import Constraint, distance
from rau.datasets.catalogue.triplets import MAX_SHARE, MOST_CHANGES, Part, Triplet, in_val
from rau.errors import UserError
from rau.params import CatalogueParams
from rau.schemas import QueryRow, ends
from rau.training.holdout import Edge, carve
from tests.catalogue import rows, write_table

SIZE = 160


NAMES = ("colour", "shape", "price", "waterproof", "extras")


def read(root: Path, table: list[dict[str, Any]], **params: Any) -> Catalogue:
    write_table(root, table)
    return CatalogueReader(CatalogueParams(**params)).read(root)


def cell(row: dict[str, Any], name: str) -> Any:
    """A cell as people read it: a number, a set, a word, or None."""
    value = row[name]
    if value == "":
        return None
    if name == "price":
        return float(value)
    return frozenset(str(value).split("|")) if name == "extras" else str(value)


def satisfies(row: dict[str, Any], demand: Constraint, found: Catalogue) -> bool:
    """Whether a row of the table does what a caption demands, read from the table itself."""
    attribute = found.products.attributes[demand.attribute]
    value = cell(row, attribute.name)
    if value is None:
        return False
    if demand.demand in ("below", "above"):
        return bool(value < demand.value if demand.demand == "below" else value > demand.value)
    assert isinstance(attribute, Labels | Sets)
    wanted = attribute.values[int(demand.value)]
    found_there = wanted in value if attribute.name == "extras" else wanted == value
    return bool(found_there == (demand.demand in ("is", "has")))


def unlike(one: dict[str, Any], other: dict[str, Any], names: set[str], step: float) -> int:
    """On how many of some attributes two rows differ noticeably."""
    count = 0
    for name in names:
        a, b = cell(one, name), cell(other, name)
        if name == "price" and None not in (a, b):
            count += not abs(a - b) < step
        else:
            count += a != b
    return count


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_what_the_table_says(tmp_path: Path, seed: int) -> None:
    table = rows(SIZE, seed)
    found = read(tmp_path, table, seed=seed)
    (step,) = [one.step for one in found.products.attributes if isinstance(one, Numbers)]
    kinds: Counter[str] = Counter()
    for part in found.parts:
        for query in part.triplets:
            kinds[query.caption.kind] += 1
            mentioned = {found.products.attributes[d.attribute].name for d in query.caption.demands}
            others = set(NAMES) - mentioned
            reference = table[query.reference]

            def away(row: int, others: set[str] = others, one: Any = reference) -> int:
                return unlike(table[row], one, others, step)

            expected = [
                row
                for row in part.rows.tolist()
                if row != query.reference
                and all(satisfies(table[row], d, found) for d in query.caption.demands)
                and away(row) <= max(1, away(query.target))
            ]
            assert query.answers.tolist() == expected
            assert query.target in expected
            assert unlike(table[query.target], reference, {*NAMES}, step) <= MOST_CHANGES
            assert not all(satisfies(reference, d, found) for d in query.caption.demands)
            assert len(expected) <= max(1, MAX_SHARE * len(part.rows))
    assert set(kinds) == set(KINDS)


def single(found: Catalogue) -> list[tuple[Triplet, str, Constraint]]:
    """Queries of one change, with the attribute and the demand."""
    every = [query for part in found.parts for query in part.triplets]
    return [
        (query, found.products.attributes[demand.attribute].name, demand)
        for query in every
        if query.caption.kind != TWO
        for demand in query.caption.demands
    ]


def test_captions_say_what_they_demand(tmp_path: Path) -> None:
    found = read(tmp_path, rows(SIZE))
    for query, name, demand in single(found):
        text = query.caption.text.casefold()
        if name == "price":
            down = bool(re.search(r"\b(cheaper|less|under|below)\b", text))
            assert down == (demand.demand == "below"), text
            for limit in re.findall(r"\d+(?:\.\d+)?", text):
                assert float(limit.rstrip(".")) == demand.value
        elif name == "waterproof":
            assert ("not" in text or "no longer" in text) == (demand.value == 0), text
            assert "waterproof" in text
        else:
            attribute = found.products.attributes[demand.attribute]
            assert isinstance(attribute, Labels | Sets)
            value = attribute.values[int(demand.value)]
            if demand.demand == "is not":
                assert query.caption.kind == VAGUE
                assert re.search(rf"another|different|change|not|but {value}", text), text
            else:
                assert value in text
            if demand.demand == "lacks":
                assert re.search(r"\b(no|not|without|leave out)\b", text), text
    texts = [query.caption.text for query, *_ in single(found)]
    assert len(set(texts)) > 100
    assert not [text for text in texts if re.search(r"[{}]|  | ,|^\W|\ba [aeio]", text)]


def test_products_are_on_one_side(tmp_path: Path) -> None:
    table = rows(SIZE)
    for number in range(0, SIZE, 3):
        table.append(table[number] | {"image": f"back/{number}.png"})
    found = read(tmp_path, table)
    annotations = found.annotations()
    side = {name: split for (_, split), ids in annotations.splits.items() for name in ids}
    assert len(side) == len(table)
    product = {picture: row for row, own in enumerate(found.products.images) for picture in own}
    sides = defaultdict(set)
    for picture, split in side.items():
        sides[product[picture]].add(split)
    assert all(len(own) == 1 for own in sides.values())
    for query in annotations.queries:
        reference, target = ends(query)
        assert side[reference] == side[target] == query["split"]
        answers = query["relevant"]
        assert answers is not None
        # Every picture of an answer is right, none of the reference.
        assert set(found.products.images[product[target]]) <= set(answers)
        assert product[reference] not in {product[name] for name in answers}
        assert all(side[name] == query["split"] for name in answers)
    for category in ("toy", "sign"):
        own = annotations.splits[category, "val"]
        assert annotations.galleries["original"][category] == sorted(own)
        share = len({product[i] for i in own}) / found.products.categories.count(category)
        assert share == pytest.approx(0.2, abs=0.02)


def test_the_holdout_shares_no_product_with_the_rest(tmp_path: Path) -> None:
    table = rows(2 * SIZE)
    table += [row | {"image": f"back/{row['image']}"} for row in table[::2]]
    found = read(tmp_path, table)
    train = [q for q in found.annotations().queries if q["split"] == "train"]
    split = carve([Edge(q["category"], *ends(q)) for q in train], 0.1, 0)
    product = {picture: row for row, own in enumerate(found.products.images) for picture in own}
    sides = [
        {product[end] for row in part for end in ends(train[row])}
        for part in (split.train, split.holdout)
    ]
    assert sides[0].isdisjoint(sides[1])
    assert len(split.holdout) > 0.05 * len(train)
    assert len(split.dropped) < 0.1 * len(train)


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    table = rows(SIZE)
    one, two, other = (read(tmp_path, table, seed=seed).annotations() for seed in (1, 1, 2))
    assert one.queries == two.queries
    assert one.splits == two.splits
    assert one.queries != other.queries


def test_most_products_keep_their_side_when_others_come(tmp_path: Path) -> None:
    def side(table: list[dict[str, Any]]) -> dict[str, bool]:
        found = read(tmp_path, table).products
        return dict(zip(found.ids, in_val(found, 0.2, 0).tolist(), strict=True))

    table = rows(240)
    few, many = side(table[:200]), side(table[::-1])
    assert sum(few[name] != many[name] for name in few) <= 8


def test_pairs_that_differ_in_one_attribute_do_not_crowd_out_those_that_differ_in_two(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, rows(400), train_queries=60, val_queries=0)
    attributes = found.products.attributes
    away = Counter(
        int(distance(attributes, one.reference, np.array([one.target]))[0])
        for part in found.parts
        for one in part.triplets
    )
    assert set(away) == {1, 2}
    assert away[2] > away[1]


def test_sizes_follow_the_parameters(tmp_path: Path) -> None:
    def counts(**params: Any) -> Counter[str]:
        return Counter(
            q["split"] for q in read(tmp_path, rows(SIZE), **params).annotations().queries
        )

    assert counts(train_queries=50, val_queries=20) == {"train": 50, "val": 20}
    assert counts(train_queries=0, val_queries=20) == {"val": 20}
    usual = counts()
    assert usual["train"] == pytest.approx(3 * 0.8 * SIZE, rel=0.1)
    half = read(tmp_path, rows(SIZE), val_share=0.5)
    assert half.val.sum() == SIZE / 2


def people(root: Path, found: Products, *asked: tuple[str, str, str, str]) -> None:
    names = ("reference", "target", "caption", "accepted")
    write_table(root, [dict(zip(names, one, strict=True)) for one in asked], "pairs.csv")


def test_people_add_and_replace_captions(tmp_path: Path) -> None:
    table = rows(SIZE)
    table.append(table[0] | {"image": "back/0.png"})
    plain = read(tmp_path, table)
    drawn = next(part for part in plain.parts if part.split == "train" and part.triplets)
    pair = drawn.triplets[0]
    train = [plain.products.ids[row] for row in drawn.rows]
    val = next(plain.products.ids[row] for row in np.flatnonzero(plain.val))
    first, second = plain.products.ids[pair.reference], plain.products.ids[pair.target]
    a, b, c = [name for name in train if name not in (first, second)][:3]
    apart = next(p for p in plain.parts if p.split == "train" and p.category != drawn.category)
    d = plain.products.ids[apart.rows[0]]
    path = plain.products.places[b]
    people(
        tmp_path,
        plain.products,
        (first, second, "the one my sister has", ""),
        (a, path, "a  nicer\none", "yes"),
        (a, c, "a nicer one", "1"),
        (a, d, "a nicer one", ""),
        (a, val, "a nicer one", ""),
        (b, c, "taken back", "yes"),
        (b, c, "taken back", "no"),
    )
    (tmp_path / "feedback").mkdir()
    answer = {"reference": b, "target": a, "caption": "from a search", "accepted": "yes"}
    write_table(
        tmp_path,
        [
            answer | {"accepted": ""},
            answer | {"reference": "uploaded"},
            answer | {"caption": "#N/A"},
            answer | {"caption": "x" * 1001},
            *(answer | {"accepted": said, "target": c} for said in ("?", "-", "unknown", "n/a")),
        ],
        "feedback/day.csv",
    )
    (tmp_path / "feedback/._day.csv").write_bytes(b"\0")
    found = CatalogueReader().read(tmp_path)
    queries = found.kinds()[PEOPLE]
    asked = {(q["reference_id"], q["target_id"]): q for q in queries}
    assert {key: q["captions"] for key, q in asked.items()} == {
        (first, second): ["the one my sister has"],
        (a, b): ["a nicer one"],
        (a, c): ["a nicer one"],
        (a, d): ["a nicer one"],
        (b, a): ["from a search"],
    }
    # Right answers of one request are those of a category.
    answers = [asked[a, target]["relevant"] for target in (b, c, d)]
    assert answers == [[b, c], [b, c], [d]]
    every = found.annotations().queries
    assert len({q["query_id"] for q in every}) == len(every)
    own = [q for q in every if (q["reference_id"], q["target_id"]) == (first, second)]
    assert [q["captions"] for q in own] == [["the one my sister has"]]
    assert len(every) == len(plain.annotations().queries) + 4
    assert [*found.files] == ["products.csv", "pairs.csv", "feedback/day.csv"]
    notes = "\n".join(found.notes)
    assert "7 rows are skipped, the first: " in notes
    assert "day.csv, row 3, column 'reference': 'uploaded' is not in the product table" in notes
    assert "1 pairs by people join a train and a val product and are skipped" in notes
    assert "1 products were rejected" in notes


def test_a_refused_product_is_no_right_answer_of_that_request(tmp_path: Path) -> None:
    """Of the same reference and words; a query whose own target was refused is not asked."""

    def asks(query: QueryRow) -> tuple[object, ...]:
        return query["reference_id"], query["target_id"], query["captions"][0]

    plain = read(tmp_path, rows(SIZE))
    before = plain.annotations().queries
    one = next(q for q in before if len(q["relevant"] or ()) > 2)
    others = [name for name in one["relevant"] or () if name != one["target_id"]]
    gone = next(q for q in before if q["reference_id"] != one["reference_id"])
    said = [(one, others[0], one["captions"][0]), (one, others[1], "in other words")]
    said.append((gone, str(gone["target_id"]), gone["captions"][0]))
    people(
        tmp_path,
        plain.products,
        *((str(q["reference_id"]), target, words, "no") for q, target, words in said),
    )
    queries = CatalogueReader().read(tmp_path).annotations().queries
    (same,) = [q for q in queries if asks(q) == asks(one)]
    assert {*(one["relevant"] or ())} - {*(same["relevant"] or ())} == {others[0]}
    assert [q for q in queries if asks(q) == asks(gone)] == []
    assert len(queries) == len(before) - 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("P1", "P9999", "red", ""), "row 2, column 'target': 'P9999' is not in the product table"),
        (("P1", "P1", "red", ""), "'P1' is the reference itself"),
        (("P1", "P2", "", ""), "column 'caption': a caption must have words and at most"),
        (("P1", "P2", "#N/A", ""), "column 'caption': a caption must have words and at most"),
        (("P1", "P2", "x" * 1001, ""), "column 'caption': a caption must have words and at most"),
        (("P1", "P2", "red", "maybe"), "column 'accepted': 'maybe' is not yes or no"),
        (("P1", "P2", "red", "?"), "column 'accepted': '\\?' is not yes or no"),
        (("P1", "../1.png", "red", ""), "column 'target': '../1.png' is not in the product table"),
    ],
)
def test_faults_of_pairs(tmp_path: Path, row: tuple[str, str, str, str], message: str) -> None:
    plain = read(tmp_path, rows(20))
    people(tmp_path, plain.products, row)
    with pytest.raises(UserError, match=message) as caught:
        CatalogueReader().read(tmp_path)
    assert "pairs.csv" in str(caught.value)


def test_people_name_products_by_their_paths(tmp_path: Path) -> None:
    paths = ("x/a.jpg.png", "x/a.jpg", "x/b.jpg", "x/b.png", "x/c.jpg")
    table = [{"image": path, "id": f"P{row}", "colour": row % 2} for row, path in enumerate(paths)]
    write_table(tmp_path, table)
    found = products.read(tmp_path)
    names = ("x/a.jpg", "x\\a.jpg", "./x/a.jpg", str(tmp_path.absolute() / "x/a.jpg"), "P1")
    people(tmp_path, found, *((name, "x/c", str(row), "") for row, name in enumerate(names)))
    asked = read_people(tmp_path, found).found
    assert [(one.reference, one.targets) for one in asked] == [(1, (4,))] * len(names)
    # Two products have such a path.
    people(tmp_path, found, ("P1", "x/b", "red", ""))
    with pytest.raises(UserError, match="'x/b' is not in the product table"):
        read_people(tmp_path, found)


def test_nothing_to_ask_for(tmp_path: Path) -> None:
    table = [{"image": f"{n}.jpg"} for n in range(12)]
    with pytest.raises(
        UserError, match=r"no column that distinguishes products.*only column is image"
    ):
        read(tmp_path, table)
    write_table(
        tmp_path,
        [
            {"reference": str(a), "target": str(b), "caption": "x"}
            for a in range(12)
            for b in range(12)
            if a != b
        ],
        "pairs.csv",
    )
    found = CatalogueReader().read(tmp_path)
    assert {q["split"] for q in found.annotations().queries} == {"train", "val"}


def test_broad_captions_are_not_asked(tmp_path: Path) -> None:
    table = [{"image": f"{n}.jpg", "colour": ("red", "blue")[n % 2]} for n in range(60)]
    found = read(tmp_path, table)
    assert found.parts[0].triplets == []
    assert any(note.startswith("0 of 144 train queries were sampled") for note in found.notes)


def test_parts_of_a_catalogue_without_pairs(tmp_path: Path) -> None:
    table = rows(SIZE)
    table.append(table[0] | {"image": "z.png", "id": "Z", "category": "alone"})
    found = read(tmp_path, table)
    alone: list[Part] = [part for part in found.parts if part.category == "alone"]
    assert [len(part.triplets) for part in alone] == [0, 0]
    assert found.annotations().splits["alone", "train"] == ["Z"]
