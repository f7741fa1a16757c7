"""Grown galleries."""

import numpy as np

from rau.studies import (
    galleries,
    runs,
)
from tests.studies.synthetic import trained


def test_more_images_leave_the_first_ones_where_they_were_and_only_cost() -> None:
    one = trained()
    taken = {row["image_id"] for row in one.data.galleries}
    names = [name for name in one.data.features.images.names if name not in taken]
    one.data.listed = {key: [*names, *taken] for key in ("dress", "shirt")}
    found = galleries.growing(one)
    (category,) = {task.category for task in one.data.tasks(one.protocol)}
    values, images = found[f"values/{category}"], found[f"images/{category}"]
    assert found["factors"].tolist() == [1.0, 1.5, 2.0, 3.0, 5.0]
    assert images[0] == 24
    assert images[-1] == 5 * 24
    result = runs.execute(one.params, one.data)
    place = [result.names.index(name) for name in galleries.METRICS]
    own = result.values[one.protocol.name][category][:, place]
    np.testing.assert_allclose(values[0], own, rtol=1e-5)
    assert (np.diff(values, axis=0) <= 1e-4).all()
    assert values[-1].mean() < values[0].mean()
