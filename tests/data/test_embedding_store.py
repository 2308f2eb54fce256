"""Stored embeddings: contents, unreadable records, invalid folders, and mismatches of CLIP or preprocessing."""

import json
import pathlib

import jax
import numpy as np
import pytest

from unclip_jax import __main__, experiment
from unclip_jax.cascades.embedding import encode_image, image_encoder, load_clip
from unclip_jax.data import embedding_store, pipeline
from unclip_jax.data.embedding_store import EmbeddingStore
from unclip_jax.data.records import Record
from unclip_jax.data.sources import check_source, open_source
from unclip_jax.data.spec import DataSpec
from unclip_jax.fields import parse

PRIOR = pathlib.Path(__file__).parents[2] / "configs/shapes/diffusion_prior.py"
TINY = {"source": "captioned_shapes/tiny", "threads": 0}


class Records(list):
    """A source in memory. If an image is an exception, reading its record raises it."""

    def __getitem__(self, index):
        record = super().__getitem__(index)
        if isinstance(record.image, Exception):
            raise record.image
        return record


def record(number):
    return Record(np.full((16, 16, 3), number, np.uint8), (f"number {number}", "a gray image"))


def means(images):
    """Encodes an image as its mean and its side."""
    return np.stack([images.mean((1, 2, 3)), np.full(len(images), images.shape[1])], axis=1)


def config(**fields):
    spec = parse(DataSpec, {"image_size": 8, "threads": 0} | fields, where="config.data")
    check_source(spec)
    return spec


def write(directory, records, *, clip="c1", **fields):
    provenance = {"clip": clip, "data": "some images", "spec": config(**fields)}
    return embedding_store.write_store(directory, {"train": records}, means, **provenance, rows=3)


def test_store_returns_records_in_order_with_captions(tmp_path):
    assert write(tmp_path / "e", Records(map(record, range(7)))) == {"train": {"records": 7, "unreadable": 0}}
    store = EmbeddingStore(tmp_path / "e", "train")
    for number in range(7):  # three batches, the last of one record
        actual = store[number]
        assert actual.image is None and actual.captions == (f"number {number}", "a gray image")
        np.testing.assert_array_equal(actual.embedding, np.float32([number, 8]))  # embedded at image_size
    assert list(store.captions())[2:4] == ["number 1", "a gray image"]


def test_store_keeps_captions_with_unicode_line_separators(tmp_path):
    captions = tuple(f"one{separator}two" for separator in "\u0085\u2028\u2029\n\r")
    write(tmp_path / "e", Records([record(0)._replace(captions=captions), record(1)]))
    assert EmbeddingStore(tmp_path / "e", "train")[0].captions == captions


def test_write_store_skips_and_counts_unreadable_records(tmp_path):
    records = Records(map(record, range(5)))
    records[1] = Record(ValueError("a truncated file"))
    with pytest.warns(UserWarning, match=r"Record 1 cannot be read and is skipped \(1 so far\): .*truncated"):
        splits = write(tmp_path / "e", records, max_unreadable=0.2)
    assert splits == {"train": {"records": 4, "unreadable": 1}}
    store = EmbeddingStore(tmp_path / "e", "train")
    assert [store[i].captions[0] for i in range(4)] == ["number 0", "number 2", "number 3", "number 4"]
    np.testing.assert_array_equal([store[i].embedding[0] for i in range(4)], [0, 2, 3, 4])


def test_write_store_creates_no_folder_when_too_many_records_are_unreadable(tmp_path):
    records = Records([record(0), Record(OSError("gone"))])
    with pytest.raises(ValueError, match="1 of 2 records cannot be read, more than config.data.max_unreadable=0.2"):
        write(tmp_path / "e", records, max_unreadable=0.2)
    assert not (tmp_path / "e").exists()
    write(tmp_path / "e", Records([record(0)]))  # remains of the first call do not matter


def test_write_store_rejects_existing_folder(tmp_path):
    (tmp_path / "e").mkdir()
    with pytest.raises(ValueError, match="already exists. Embeddings must be written to a new folder"):
        write(tmp_path / "e", Records([record(0)]))


def test_check_made_by_rejects_other_clip_or_preprocessing_with_both_digests(tmp_path):
    write(tmp_path / "e", Records([record(0)]))
    embedding_store.check_made_by(tmp_path / "e", clip="c1", spec=config())
    with pytest.raises(ValueError, match="computed with the config's CLIP, whose digest is c2, got digest c1."):
        embedding_store.check_made_by(tmp_path / "e", clip="c2", spec=config())
    digest = "[0-9a-f]{64}"
    message = rf"preprocessing .*'image_size': 16.* digest is {digest}, got digest {digest}, .*'image_size': 8"
    with pytest.raises(ValueError, match=message):
        embedding_store.check_made_by(tmp_path / "e", clip="c1", spec=config(image_size=16))


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("manifest.json", None, "contains no embeddings: manifest.json is missing"),
        ("manifest.json", b"{", "is not a valid manifest of embeddings"),
        ("manifest.json", b'{"schema": 2}', "schema must be 1, got 2"),
        ("train/captions.jsonl", b'["one"]\n', "must have 2 records .* got 2 embeddings and 1 lines of captions"),
        ("train/captions.jsonl", b"[\n", "cannot be read"),
        ("train/embeddings.npy", b"", "cannot be read"),
        ("train/embeddings.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
    ],
)
def test_store_rejects_corrupt_folder(tmp_path, file, content, message):
    write(tmp_path / "e", Records([record(0), record(1)]))
    path = tmp_path / "e" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        EmbeddingStore(tmp_path / "e", "train")


def test_store_rejects_unknown_split(tmp_path):
    write(tmp_path / "e", Records([record(0)]))
    with pytest.raises(ValueError, match="split must be one of train for .*, got 'test'"):
        EmbeddingStore(tmp_path / "e", "test")


def test_pipeline_rows_of_stored_embeddings_have_no_image(tmp_path):
    write(tmp_path / "e", Records(map(record, range(4))))
    fields = config(source="embeddings", dir=str(tmp_path / "e"), workers=1)
    stream = pipeline.Pipeline(fields, "train", global_batch=2, seed=0, shuffle=False)
    batch = next(stream.batches(0))  # loaded by a worker process, which opens the files again
    assert set(batch) == {"embedding", "row", "record"}
    np.testing.assert_array_equal(batch["embedding"], np.float32([[0, 8], [1, 8]]))


@pytest.mark.parametrize(
    "field, value", [("clip_size", 8), ("low_res_size", 4), ("crop_fraction", 0.5), ("flip", True)]
)
def test_embeddings_source_rejects_image_settings(tmp_path, field, value):
    with pytest.raises(ValueError, match=f"config.data.{field} must be .* with source embeddings, .* got {value}"):
        config(source="embeddings", **{field: value})


def test_image_encoder_on_eight_devices_matches_one_device():
    clip = load_clip("shapes")
    images = np.random.default_rng(0).integers(0, 256, (11, 64, 64, 3), np.uint8)
    encode, _ = image_encoder(clip)
    assert jax.local_device_count() == 8
    np.testing.assert_allclose(encode(images), encode_image(clip, images), atol=2e-5)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Tiny captioned shapes, embedded with the bundled CLIP on the command line."""
    folder = tmp_path_factory.mktemp("stored") / "embeddings"
    flags = [f"--config.data.{name}={value}" for name, value in TINY.items()]
    assert __main__.main(["prepare-data", "embeddings", f"--config={PRIOR}", f"--out={folder}", *flags]) == 0
    return folder


def test_prepare_data_command_stores_clip_embeddings_of_all_records(stored):
    manifest = json.loads((stored / "manifest.json").read_text())
    assert manifest["splits"] == {name: {"records": n, "unreadable": 0} for name, n in (("train", 96), ("test", 32))}
    source = open_source(DataSpec(**TINY), "test")
    store = EmbeddingStore(stored, "test")
    images = np.stack([source[index].image for index in range(32)])
    actual = np.stack([store[index].embedding for index in range(32)])
    np.testing.assert_allclose(actual, encode_image(load_clip("shapes"), images), atol=2e-5)
    assert [store[i].captions for i in range(32)] == [source[i].captions for i in range(32)]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_anew")
def test_prior_losses_match_between_stored_embeddings_and_images(stored, tmp_path):
    small = ["model.width=32", "model.heads=2", "model.layers=1", "training.global_batch=8", "training.steps=3"]
    small += ["optimizer.warmup_steps=1", "training.log_every=1", "training.eval_every=0", "data.threads=0"]
    losses = {}
    for name, data in (
        ("images", ["data.source=captioned_shapes/tiny"]),
        ("stored", ["data.source=embeddings", f"data.dir={stored}"]),
    ):
        experiment.train_stage(experiment.load_config(PRIOR, [*small, *data]), tmp_path / name, progress=False)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [json.loads(line)["loss"] for line in lines]
    assert len(losses["stored"]) == 3
    np.testing.assert_allclose(losses["stored"], losses["images"], rtol=1e-4)


def test_training_rejects_embeddings_of_other_preprocessing_before_the_first_step(stored, tmp_path):
    overrides = ["data.source=embeddings", f"data.dir={stored}", "data.image_size=32"]
    with pytest.raises(ValueError, match="preprocessing .*'image_size': 32"):
        experiment.train_stage(experiment.load_config(PRIOR, overrides), tmp_path / "prior", progress=False)
    assert not (tmp_path / "prior").exists()


def test_training_on_images_rejects_stored_embeddings(stored, tmp_path):
    path = PRIOR.parent / "decoder.py"
    overrides = ["data.source=embeddings", f"data.dir={stored}", "data.clip_size=None"]
    with pytest.raises(ValueError, match="source embeddings has no image, which kind 'decoder' is trained on"):
        experiment.train_stage(experiment.load_config(path, overrides), tmp_path / "decoder", progress=False)
