"""How a source is named where it is said what a network was trained on."""

import numpy as np
import pytest

from tests.data.test_embedding_store import config, means
from unclip_jax.data import embedding_store
from unclip_jax.data.records import Record
from unclip_jax.data.sources import describe
from unclip_jax.data.spec import DataSpec


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("captioned_shapes", "captioned_shapes/full 1.1.0"),
        ("captioned_shapes/tiny", "captioned_shapes/tiny 1.1.0"),
        ("folder", "folder"),
        ("tfds:coco_captions/2017", "tfds:coco_captions/2017"),
    ],
)
def test_a_source_is_named_with_the_version_that_it_has(source, said):
    assert describe(DataSpec(source=source)) == said


def test_stored_embeddings_are_named_after_what_was_embedded(tmp_path):
    given = {"clip": "c", "data": "captioned_shapes/full 1.1.0", "spec": config()}
    rows = [Record(np.zeros((16, 16, 3), np.uint8), ("a ring",))]
    embedding_store.write_store(tmp_path / "e", {"train": rows}, means, **given, rows=1)
    wanted = DataSpec(source="embeddings", dir=str(tmp_path / "e"))
    assert describe(wanted) == "embeddings of captioned_shapes/full 1.1.0"
