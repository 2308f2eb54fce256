"""TFDS datasets as a source, with a generated dataset that has renamed and nested fields."""

import dataclasses
import io
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from unclip_jax.data.pipeline import Pipeline
from unclip_jax.data.sources import open_source
from unclip_jax.data.spec import DataSpec

COUNT = 6


class HolidayPhotos(tfds.core.GeneratorBasedBuilder):
    """Images that are wider than high, with titles and remarks."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = epath.Path(__file__).parent
    code_path = epath.Path(__file__)

    def _info(self):
        remarks = tfds.features.Sequence({"text": tfds.features.Text(), "id": np.int64})
        features = {"photo": tfds.features.Image(shape=(12, 20, 3)), "title": tfds.features.Text(), "remarks": remarks}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), description=__doc__)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "validation": self._generate_examples()}

    def _generate_examples(self):
        for index in range(COUNT):
            buffer = io.BytesIO()
            Image.fromarray(photo(index)).save(buffer, "PNG")
            remarks = [{"text": f"remark {index}.{n}", "id": n} for n in range(index % 3)]
            yield index, {"photo": io.BytesIO(buffer.getvalue()), "title": f"title {index}", "remarks": remarks}


def photo(index):
    image = np.zeros((12, 20, 3), np.uint8)
    image[:, 4:16] = 40 * index  # the central square
    return image


def prepare_holiday_photos(folder):
    tfds.disable_progress_bar()
    builder = HolidayPhotos(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_dir=folder / "none", file_format="array_record")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare_holiday_photos(folder)
    return folder


def config(directory, **fields):
    defaults = {
        "source": "tfds:holiday_photos",
        "dir": str(directory),
        "image_field": "photo",
        "caption_field": "title",
    }
    return DataSpec(**defaults | fields)


def test_tfds_records_have_image_and_caption_of_the_configured_fields(directory):
    source = open_source(config(directory), "train")
    assert len(source) == COUNT
    image_of = {record.captions[0]: record.image for record in (source[index] for index in range(COUNT))}
    assert sorted(image_of) == [f"title {index}" for index in range(COUNT)]
    for index in range(COUNT):
        np.testing.assert_array_equal(image_of[f"title {index}"], np.full((12, 12, 3), 40 * index))
    assert sorted(source.captions()) == sorted(image_of)


def test_tfds_nested_caption_field_has_several_captions_and_records_without_one_are_replaced(directory):
    nested = config(directory, caption_field="remarks/text")
    source = pickle.loads(pickle.dumps(open_source(nested, "validation")))
    expected = [f"remark {index}.{n}" for index in range(COUNT) for n in range(index % 3)]
    assert sorted(source.captions()) == expected
    nested = dataclasses.replace(nested, image_size=4, max_unreadable=0.5, threads=0)
    with pytest.warns(UserWarning, match="the record has no caption"):
        batch = next(Pipeline(nested, "train", global_batch=COUNT, seed=0, shuffle=False).batches())
    assert set(np.unique(batch["image"])) <= {40, 80, 160, 200}


@pytest.mark.parametrize(
    ("fields", "split", "message"),
    [
        (
            {"image_field": "image"},
            "train",
            "image_field must be a field of 'holiday_photos' .photo, remarks.*, got 'image'",
        ),
        ({"caption_field": "remarks"}, "train", "caption_field must be a .*remarks/id, remarks/text.*, got 'remarks'"),
        ({}, "test", "Split 'test' of 'holiday_photos' cannot be read .* Available splits: train, validation"),
        ({"source": "tfds:no_such_photos"}, "train", "source 'tfds:no_such_photos' cannot be opened: "),
    ],
    ids=lambda value: None,
)
def test_tfds_unknown_field_split_or_dataset_is_rejected_with_the_available_ones(directory, fields, split, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(config(directory, **fields), split)
    assert "\n" not in str(error.value)
