"""Evaluation from Python where a data set asks in more than one way."""

from pathlib import Path

import numpy as np
import pytest

import rau
from tests import circo_data


@pytest.mark.parametrize("protocol", ["circo", "circo-concept"])
def test_the_texts_that_are_needed_suffice_for_every_protocol(
    tmp_path: Path, protocol: str
) -> None:
    circo_data.write_annotations(tmp_path)
    data = rau.datasets.read("circo", tmp_path)
    texts, rng = rau.needed_texts(data.queries), np.random.default_rng(0)
    images = data.galleries.image_id.tolist()
    features = rau.feature_set(
        images=(images, rng.normal(size=(len(images), 4))),
        texts=(texts, rng.normal(size=(len(texts), 4))),
        shared_space=True,
    )
    found = rau.evaluate(features, data.queries, data.galleries, protocol, bootstrap=0)
    assert "map_at_5" in found.loc["mean"].index
