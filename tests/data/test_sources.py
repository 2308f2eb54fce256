"""The table of sources: records match the declarations, and configs that require other fields are rejected."""

import importlib
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.data.test_embedding_store import config, means
from tests.data.test_tfds_source import prepare_holiday_photos
from unclip_jax import experiment
from unclip_jax.data import embedding_store
from unclip_jax.data.captioned_shapes.dataset_sizes import DATASET_SIZES
from unclip_jax.data.records import Record
from unclip_jax.data.sources import SOURCES, check_source, describe, open_source, source_type
from unclip_jax.data.spec import DataSpec

CLIP = pathlib.Path(__file__).parents[2] / "configs/shapes/clip.py"
REQUESTS = ("captions", "negative_captions", "scene_targets")


@pytest.mark.parametrize(
    ("source", "description"),
    [
        ("captioned_shapes", "captioned_shapes/full 1.1.0"),
        ("captioned_shapes/tiny", "captioned_shapes/tiny 1.1.0"),
        ("folder", "folder"),
        ("tfds:coco_captions/2017", "tfds:coco_captions/2017"),
    ],
)
def test_describe_returns_name_and_version(source, description):
    assert describe(DataSpec(source=source)) == description


def test_describe_of_embeddings_names_the_embedded_dataset(tmp_path):
    store = {"clip": "c", "data": "captioned_shapes/full 1.1.0", "spec": config()}
    rows = [Record(np.zeros((16, 16, 3), np.uint8), ("a ring",))]
    embedding_store.write_store(tmp_path / "e", {"train": rows}, means, **store, rows=1)
    spec = DataSpec(source="embeddings", dir=str(tmp_path / "e"))
    assert describe(spec) == "embeddings of captioned_shapes/full 1.1.0"


def make_captioned_shapes(folder, name, monkeypatch):
    for split in ("train", "test", "compositional"):
        monkeypatch.setitem(DATASET_SIZES[name.partition("/")[2] or "full"].records, split, 2)
    return {"source": name}


def make_folder(folder, name, monkeypatch):
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "a.txt").write_text("a ring")
    return {"source": name}


def make_embeddings(folder, name, monkeypatch):
    rows = [Record(np.zeros((16, 16, 3), np.uint8), ("a ring",))]
    store = {"clip": "c", "data": "some", "spec": config()}
    embedding_store.write_store(folder / "e", {"train": rows}, means, **store, rows=1)
    return {"source": name, "dir": str(folder / "e")}


def make_tfds(folder, name, monkeypatch):
    prepare_holiday_photos(folder)
    return {"source": f"{name}:holiday_photos", "image_field": "photo", "caption_field": "title"}


MAKERS = {
    "captioned_shapes": make_captioned_shapes,
    "folder": make_folder,
    "embeddings": make_embeddings,
    "tfds": make_tfds,
}


@pytest.mark.parametrize("entry", SOURCES, ids=lambda entry: entry.name)
def test_source_records_have_the_declared_fields(entry, tmp_path, monkeypatch):
    fields = MAKERS[entry.name.partition("/")[0]](tmp_path, entry.name, monkeypatch)
    requests = {name: True for name in REQUESTS if name in entry.provides}
    spec = DataSpec(**{"dir": str(tmp_path), **fields, **requests})
    assert source_type(spec.source) is entry
    source = open_source(spec, "train")
    for record in (source[index] for index in range(len(source))):
        values = record._asdict()
        assert {name for name in values if values[name] is not None and len(values[name])} == entry.provides


def shapes_config(**data):
    return experiment.load_config(CLIP, [f"data.{name}={value}" for name, value in data.items()])


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (name, entry.pattern)
        for name in ("negative_captions", "scene_targets")
        for entry in SOURCES
        if name not in entry.provides and "image" in entry.provides
    ],
)
def test_config_is_rejected_when_source_lacks_required_field(name, source):
    others = {other: other == name for other in ("negative_captions", "scene_targets")}
    with pytest.raises(ValueError, match=rf"^config.data.{name} needs .* \(.*contrasts, .*, got source {source}\.$"):
        shapes_config(source=source, **others)


def test_config_is_rejected_when_source_is_unknown():
    sizes = "captioned_shapes, captioned_shapes/tiny, captioned_shapes/contrasts, captioned_shapes/contrasts_tiny"
    known = f"{sizes}, captioned_shapes/recoloured, folder, embeddings, tfds:NAME"
    for source in ("photos", "folder:photos", "tfds", "captioned_shapes/full", "captioned_shapes/huge"):
        with pytest.raises(ValueError, match=f"^config.data.source must be one of {known}, got '{source}'.$"):
            shapes_config(source=source)


def test_config_is_rejected_when_source_lacks_image_field():
    with pytest.raises(ValueError, match="^config.data.image_field must be image or thumbnail with source"):
        shapes_config(image_field="photo")
    check_source(DataSpec(source="folder", image_field="photo"))  # no effect for this source
    check_source(DataSpec(source="tfds:photos", image_field="photo"))


@pytest.mark.parametrize("source", ["folder", "embeddings"])
def test_missing_data_dir_is_rejected_before_encoders_are_loaded(source, tmp_path, monkeypatch):
    config = experiment.load_config(CLIP.parent / "diffusion_prior.py", [f"data.source={source}"])
    for module in ("assemble", "embeddings"):
        imported = importlib.import_module(f"unclip_jax.experiment.{module}")
        monkeypatch.setattr(imported, "load_encoders", lambda config: pytest.fail("encoders were loaded"))
    with pytest.raises(ValueError, match=f"^config.data.dir must be a folder .* with source {source}, got None.$"):
        experiment.train_stage(config, tmp_path / "run", progress=False)
    if "image" in source_type(source).provides:
        with pytest.raises(ValueError, match="^config.data.dir must be a folder"):
            experiment.store_embeddings(config, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_store_embeddings_rejects_source_without_images(tmp_path):
    config = experiment.load_config(CLIP.parent / "diffusion_prior.py", ["data.source=embeddings"])
    with pytest.raises(ValueError, match="config.data.source must be a source of images, got embeddings"):
        experiment.store_embeddings(config, tmp_path / "out")
