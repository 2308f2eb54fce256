"""Batches of the pipeline. Most tests use a list of records as the source."""

import dataclasses
import gc
import threading
import time

import numpy as np
import pytest

from unclip_jax import fields
from unclip_jax.data import bsr
from unclip_jax.data.cached_source import CachedSource
from unclip_jax.data.captioned_shapes.builder import data_source
from unclip_jax.data.captioned_shapes.scene import Scene
from unclip_jax.data.captioned_shapes.scene_targets import scene_targets
from unclip_jax.data.corruption import gaussian_blur
from unclip_jax.data.pipeline import Pipeline
from unclip_jax.data.records import Record
from unclip_jax.data.rows import batch_fields
from unclip_jax.data.sources import check_source, open_source
from unclip_jax.data.spec import DataSpec
from unclip_jax.data.transforms import row_rng
from unclip_jax.tokenizers.clip_bpe import Tokenizer, train_tokenizer

COUNT = 10
CROPS = {"image_size": 16, "crop_fraction": 0.5, "low_res_size": 4, "blur": {"kernel": 3, "sigma": 0.6}}


def noise(index):
    """Returns an image of noise with the index of the record in the red channel."""
    image = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
    image[..., 0] = index
    return image


RECORDS = [Record(noise(index), (f"one {index}", f"two {index}", f"three {index}")) for index in range(COUNT)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    captions = [caption for record in RECORDS for caption in record.captions]
    train_tokenizer(captions, vocab_size=560, context_length=8, directory=folder)
    return Tokenizer.load(folder)


def make(config=CROPS, *, source=RECORDS, **arguments):
    arguments = {"global_batch": 4, "seed": 5} | arguments
    spec = fields.parse(DataSpec, {"threads": 0} | config, where="config.data")
    check_source(spec)
    return Pipeline(spec, "train", source=source, **arguments)


def take(stream, count, start=0):
    batches = stream.batches(start)
    return [next(batches) for _ in range(count)]


def assert_same(actual, expected):
    for batch, other in zip(actual, expected, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
            assert batch[name].dtype == other[name].dtype


def test_batch_has_expected_fields_dtypes_and_shapes(tokenizer):
    config = CROPS | {"captions": True, "clip_size": 8}
    batch = take(make(config, tokenizer=tokenizer), 1)[0]
    assert {name: (value.dtype.name, value.shape) for name, value in batch.items()} == {
        "image": ("uint8", (4, 8, 8, 3)),
        "clip_image": ("uint8", (4, 8, 8, 3)),
        "low_res": ("float32", (4, 2, 2, 3)),
        "tokens": ("int32", (4, 8)),
        "row": ("int32", (4,)),
        "record": ("int32", (4,)),
    }
    assert set(take(make({"image_size": 16}), 1)[0]) == {"image", "row", "record"}


def test_row_numbers_continue_over_steps_and_epochs():
    batches = take(make(), 7, start=3)
    np.testing.assert_array_equal([batch["row"] for batch in batches], np.arange(12, 40).reshape(7, 4))


def test_each_epoch_contains_every_record_once_in_a_new_order():
    records = np.concatenate([batch["record"] for batch in take(make(), 10)]).reshape(4, COUNT)
    for epoch in records:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in records}) == 4
    other = np.concatenate([batch["record"] for batch in take(make(seed=6), 10)]).reshape(4, COUNT)
    assert (records != other).any()


def test_records_are_in_order_without_shuffling():
    records = np.concatenate([batch["record"] for batch in take(make(shuffle=False), 5)])
    np.testing.assert_array_equal(records, [*range(COUNT), *range(COUNT)])


@pytest.mark.parametrize("processes", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_processes(processes, tokenizer):
    config = CROPS | {"captions": True}
    expected = take(make(config, tokenizer=tokenizer), 6, start=1)
    parts = [
        take(make(config, tokenizer=tokenizer, process_index=index, process_count=processes), 6, start=1)
        for index in range(processes)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in step]) for name in step[0]} for step in zip(*parts, strict=True)
    ]
    assert_same(joined, expected)


def test_batches_from_a_step_match_the_uninterrupted_stream():
    stream = make()
    assert_same(take(stream, 4, start=5), take(stream, 9)[5:])


def test_batches_do_not_depend_on_threads():
    assert_same(take(make({"threads": 4, "prefetch": 8} | CROPS), 8, start=2), take(make(), 8, start=2))


@pytest.mark.slow
def test_batches_do_not_depend_on_worker_processes(tokenizer):
    config = CROPS | {"captions": True}
    with_workers = make({"workers": 2, **config}, tokenizer=tokenizer, source=CachedSource(RECORDS))
    assert_same(take(with_workers, 4, start=2), take(make(config, tokenizer=tokenizer), 4, start=2))


def test_deleted_iterator_stops_its_threads():
    before = threading.active_count()
    batches = make({"threads": 3} | CROPS).batches(0)
    next(batches)
    assert threading.active_count() > before
    del batches
    gc.collect()
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_blur_share_selects_rows_independently_of_the_batch_size():
    half = CROPS | {"crop_fraction": 1.0, "blur": {"kernel": 3, "sigma": 0.6, "share": 0.5}}

    def blurred(batches):
        is_blurred = {}
        for batch in batches:
            for row, image, low_res in zip(batch["row"], batch["image"], batch["low_res"], strict=True):
                means = image.astype(np.float64).reshape(4, 4, 4, 4, 3).mean((1, 3)) / 127.5 - 1
                is_blurred[int(row)] = not np.allclose(low_res, means, atol=1e-6)
                expected = gaussian_blur(means, kernel=3, sigma=0.6) if is_blurred[int(row)] else means
                np.testing.assert_allclose(low_res, expected, atol=1e-6)
        return is_blurred

    selected = blurred(take(make(half), 50))
    assert 70 <= sum(selected.values()) <= 130  # of 200: 100 plus or minus four standard deviations
    assert blurred(take(make(half, global_batch=8), 25)) == selected


def test_noise_on_low_res_has_uniform_std_up_to_the_maximum():
    noisy = CROPS | {"crop_fraction": 1.0, "noise": 0.3}
    stds = {}
    for batch in take(make(noisy), 50):
        for row, image, low_res in zip(batch["row"], batch["image"], batch["low_res"], strict=True):
            means = image.astype(np.float64).reshape(4, 4, 4, 4, 3).mean((1, 3)) / 127.5 - 1
            clean = gaussian_blur(means, kernel=3, sigma=0.6)
            inside = (np.abs(clean) < 0.4) & (np.abs(low_res) < 1.0)  # exclude clipped values
            stds[int(row)] = np.std((low_res - clean)[inside])
            assert np.abs(low_res).max() <= 1.0
    values = np.asarray(list(stds.values()))
    # The uniform distribution from 0 to 0.3 has mean 0.15 and std 0.087. The tolerance is four standard errors of 200.
    assert abs(values.mean() - 0.15) < 0.03 and abs(values.std() - 0.087) < 0.03 and values.max() < 0.45
    assert_same(take(make(noisy, global_batch=8), 1)[:1], [
        {name: np.concatenate([part[name] for part in take(make(noisy), 2)]) for name in take(make(noisy), 1)[0]}
    ])  # fmt: skip


def test_bsr_share_degrades_rows_with_their_own_generator():
    mixed = CROPS | {"crop_fraction": 1.0, "bsr": 0.5}
    degraded = {}
    for batch in take(make(mixed), 50):
        for row, image, low_res in zip(batch["row"], batch["image"], batch["low_res"], strict=True):
            means = image.astype(np.float64).reshape(4, 4, 4, 4, 3).mean((1, 3)) / 127.5 - 1
            degraded[int(row)] = not np.allclose(low_res, gaussian_blur(means, kernel=3, sigma=0.6), atol=1e-6)
            if degraded[int(row)]:
                expected = bsr.degrade(image, 4, row_rng(5, int(row), "bsr"))
                np.testing.assert_array_equal(low_res, expected)
    assert 70 <= sum(degraded.values()) <= 130  # of 200: 100 plus or minus four standard deviations


def test_low_res_is_the_blurred_box_mean_of_the_crop():
    for batch in take(make(), 3):
        for image, low_res in zip(batch["image"], batch["low_res"], strict=True):
            means = image.astype(np.float64).reshape(2, 4, 2, 4, 3).mean((1, 3)) / 127.5 - 1
            np.testing.assert_allclose(low_res, gaussian_blur(means, kernel=3, sigma=0.6), atol=1e-6)
    plain = take(make(CROPS | {"blur": None}), 1)[0]
    means = plain["image"].astype(np.float64).reshape(4, 2, 4, 2, 4, 3).mean((2, 4)) / 127.5 - 1
    np.testing.assert_allclose(plain["low_res"], means, atol=1e-6)
    assert np.abs(plain["low_res"] - take(make(), 1)[0]["low_res"]).max() > 0.01


def test_crops_align_with_the_low_resolution_grid():
    corners = set()
    for batch in take(make(), 25):
        for record, image in zip(batch["record"], batch["image"], strict=True):
            full = noise(record)
            matches = [
                (top, left)
                for top in range(9)
                for left in range(9)
                if (full[top : top + 8, left : left + 8] == image).all()
            ]
            assert len(matches) == 1
            corners.update(matches)
    assert corners == {(top, left) for top in (0, 4, 8) for left in (0, 4, 8)}


def test_clip_image_is_not_cropped():
    batch = take(make(CROPS | {"clip_size": 16}), 1)[0]
    for record, image in zip(batch["record"], batch["clip_image"], strict=True):
        np.testing.assert_array_equal(image, noise(record))


def test_negative_caption_corresponds_to_the_caption(tokenizer):
    records = [record._replace(negative_captions=record.captions[::-1]) for record in RECORDS]
    config = {"image_size": 16, "captions": True, "negative_captions": True, "source": "captioned_shapes/contrasts"}
    used = set()
    for batch in take(make(config, source=records, tokenizer=tokenizer), 20):
        for record, tokens, wrong in zip(
            batch["record"], batch["tokens"].tolist(), batch["wrong_tokens"].tolist(), strict=True
        ):
            choices = tokenizer.encode(records[record].captions).tolist()
            used.add(choices.index(tokens))
            assert wrong == choices[::-1][choices.index(tokens)]
    assert used == {0, 1, 2}


def test_batch_contains_scene_targets_of_records():
    records = [record._replace(scene_targets=np.float32([number, 7.0])) for number, record in enumerate(RECORDS)]
    for batch in take(make({"image_size": 16, "scene_targets": True}, source=records), 3):
        np.testing.assert_array_equal(batch["moments"], [[number, 7.0] for number in batch["record"]])
    assert "moments" not in take(make({"image_size": 16}, source=records), 1)[0]


def test_captioned_shapes_provide_scene_targets():
    spec = DataSpec(source="captioned_shapes/tiny", scene_targets=True)
    source, scenes = open_source(spec, "test"), data_source("test", size="tiny", fields=("scene",))
    for number in (0, 5):
        expected = scene_targets(Scene.from_json(scenes[number]["scene"]))
        np.testing.assert_array_equal(source[number].scene_targets, expected)
    assert open_source(dataclasses.replace(spec, scene_targets=False), "test")[0].scene_targets is None


def test_each_row_samples_one_of_its_records_captions(tokenizer):
    used = set()
    for batch in take(make({"image_size": 16, "captions": True}, tokenizer=tokenizer), 40):
        for record, tokens in zip(batch["record"], batch["tokens"], strict=True):
            choices = [tokenizer.encode([caption])[0].tolist() for caption in RECORDS[record].captions]
            used.add((int(record), choices.index(tokens.tolist())))
    assert len(used) == 3 * COUNT


def test_flip_mirrors_half_of_the_rows_including_clip_image():
    mirrored = []
    for batch in take(make({"image_size": 16, "clip_size": 16, "flip": True}), 50):
        np.testing.assert_array_equal(batch["image"], batch["clip_image"])
        for record, image in zip(batch["record"], batch["image"], strict=True):
            mirror = (image == noise(record)[:, ::-1]).all()
            assert mirror or (image == noise(record)).all()
            mirrored.append(mirror)
    assert 70 <= sum(mirrored) <= 130  # of 200: 100 plus or minus four standard deviations


class Truncated(list):
    """A source whose records 3 and 4 cannot be decoded."""

    def __getitem__(self, index):
        if index in (3, 4):
            raise OSError("image file is truncated")
        return super().__getitem__(index)


def test_unreadable_record_is_replaced_by_the_next_with_a_warning():
    with pytest.warns(UserWarning) as warned:
        batches = take(make(CROPS | {"max_unreadable": 0.2}, source=Truncated(RECORDS), shuffle=False), 5)
    records = np.concatenate([batch["record"] for batch in batches])
    np.testing.assert_array_equal(records, [0, 1, 2, 5, 5, 5, 6, 7, 8, 9] * 2)
    assert [str(warning.message) for warning in warned] == [
        f"Record {index} cannot be read and is replaced by the next one ({count} so far): "
        "OSError: image file is truncated"
        for count, index in ((1, 3), (2, 4))
    ]


def test_too_many_unreadable_records_raise_an_error_that_lists_them():
    message = (
        "2 of 10 records cannot be read, more than config.data.max_unreadable=0.19 allows: "
        "3: OSError: image file is truncated; 4: OSError: image file is truncated"
    )
    with pytest.warns(UserWarning, match="Record 3"), pytest.raises(ValueError, match=message):
        take(make(CROPS | {"max_unreadable": 0.19}, source=Truncated(RECORDS), shuffle=False), 5)


def test_source_without_readable_records_is_rejected():
    class Broken(list):
        def __getitem__(self, index):
            raise OSError("no such disk")

    with pytest.raises(ValueError, match="cannot be read. The last error was: OSError: no such"):
        make(source=Broken(RECORDS))


def test_cached_source_reads_each_record_once():
    reads = []

    class Counting(list):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    cached = make(source=CachedSource(Counting(RECORDS)))
    assert_same(take(cached, 5), take(make(), 5))
    assert sorted(reads) == list(range(COUNT))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"imagesize": 16}, "config.data has no field imagesize. Available: .*image_size"),
        ({"image_size": 0}, "config.data.image_size must be a positive number of pixels, got 0"),
        ({"image_size": 16, "clip_size": -1}, "config.data.clip_size must be a positive number of pixels, got -1"),
        (
            {"image_size": 16, "crop_fraction": 0.3},
            "crop_fraction must .* .image_size 16., got 0.3, which gives 4.8 px",
        ),
        ({"image_size": 16, "crop_fraction": 1.5}, "crop_fraction must .* from 1 to 16 .*, got 1.5, which gives 24 px"),
        ({"image_size": 16, "low_res_size": 5}, "low_res_size must divide image_size 16, .* got 5"),
        ({"image_size": 16, "low_res_size": 4, "crop_fraction": 0.125}, "and their ratio must divide the crop of 2 px"),
        ({"image_size": 16, "blur": {"kernel": 3, "sigma": 0.6}}, "blur requires low_res_size, got low_res_size None"),
        ({"image_size": 16, "bsr": 0.5}, "bsr requires low_res_size, got low_res_size None"),
        (CROPS | {"bsr": 2.0}, r"bsr must be in \[0, 1\], got 2.0"),
        ({"image_size": 16, "noise": 0.1}, "noise requires low_res_size, got low_res_size None"),
        (CROPS | {"noise": -0.1}, r"noise must be in \[0, 1\], got -0.1"),
        ({"image_size": 16, "low_res_size": 4, "blur": {"kernel": 3}}, "config.data.blur lacks sigma"),
        (CROPS | {"blur": {"kernel": 3, "sigma": 0.6, "share": 1.5}}, r"data.blur.share must be in \[0, 1\], got 1.5"),
        (CROPS | {"blur": {"kernel": 4, "sigma": 0.6}}, "config.data.blur.kernel must be odd and from 1 to .*, got 4"),
        ({"image_size": 16, "captions": True, "flip": True}, "flip must be False with captions"),
        ({"image_size": 16, "captions": True, "negative_captions": True}, "negative_captions needs a .*contrasts"),
        ({"image_size": 16, "scene_targets": True, "flip": True}, "flip must be .* scene_targets"),
        ({"image_size": 16, "scene_targets": True, "source": "folder"}, "scene_targets needs a .* got source folder"),
        ({"image_size": 16, "captions": True}, "tokenizer must not be None if config.data.captions is True"),
        ({"image_size": 16, "threads": -1}, "config.data.threads must be at least 0, got -1"),
        ({"image_size": 32}, "image is 16 px, smaller than the required 32 px"),
    ],
)
def test_invalid_data_config_is_rejected(config, message):
    with pytest.raises(ValueError, match=message):
        make(config)


@pytest.mark.parametrize("changes", [
    {},
    {"source": "embeddings"},
    {"clip_size": 8, "captions": True},
    {"low_res_size": 4},
    {"source": "captioned_shapes/contrasts", "captions": True, "negative_captions": True, "scene_targets": True},
])  # fmt: skip
def test_batch_fields_match_the_batch(changes, tokenizer):
    extra = {"negative_captions": ("x", "y", "z"), "scene_targets": np.float32([1.0])}
    embedded = {"image": None, "embedding": np.float32([1.0])}
    records = [record._replace(**extra, **(embedded if "embed" in str(changes) else {})) for record in RECORDS]
    spec = DataSpec(**{"image_size": 16, "threads": 0, **changes})
    batch = next(Pipeline(spec, "train", global_batch=2, seed=0, tokenizer=tokenizer, source=records).batches())
    assert set(batch) - {"row", "record"} == set(batch_fields(spec))


def test_pipeline_rejects_invalid_arguments():
    with pytest.raises(ValueError, match=r"global_batch must be divisible by 3 \(processes\), got 4"):
        make(process_count=3)
    with pytest.raises(ValueError, match="seed must be from 0 .* got -1"):
        make(seed=-1)
    for name, value, message in (
        ("source", "photographs", "config.data.source must be one of captioned_shapes, .* got 'photographs'"),
        ("image_field", "photo", "image_field must be image or thumbnail with source .*, got 'photo'"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(DataSpec(**{name: value}), "train")


def test_pipeline_reads_captioned_shapes_at_both_sizes(tmp_path):
    shapes = {"source": "captioned_shapes/tiny", "dir": str(tmp_path)}
    large = Pipeline(
        DataSpec(**shapes, image_field="image", image_size=256, clip_size=64),
        "test",
        global_batch=4,
        seed=0,
        shuffle=False,
    )
    small = Pipeline(DataSpec(**shapes, image_size=64), "test", global_batch=4, seed=0, shuffle=False)
    assert len(large) == len(small) == 32
    large_batch, small_batch = take(large, 1)[0], take(small, 1)[0]
    assert large_batch["image"].shape == (4, 256, 256, 3)
    np.testing.assert_array_equal(large_batch["clip_image"], small_batch["image"])  # both are box means


@pytest.mark.parametrize("name", ["captions", "negative_captions", "scene_targets"])
def test_records_without_a_required_field_are_refused_at_once(name, tokenizer):
    records = [record._replace(captions=("a", "b", "c") if name == "negative_captions" else ()) for record in RECORDS]
    asked = {"captions": name != "scene_targets", name: True}
    spec = DataSpec(image_size=16, threads=0, **asked)
    with pytest.raises(ValueError, match=f"config.data.{name} needs records with {name}, and a record of this source"):
        Pipeline(spec, "train", source=records, global_batch=4, seed=0, tokenizer=tokenizer)


def test_records_may_have_image_and_embedding():
    records = [record._replace(embedding=np.full(3, number, np.float32)) for number, record in enumerate(RECORDS)]
    (batch,) = take(make({"image_size": 16}, source=records), 1)
    assert batch["image"].shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(batch["embedding"][:, 0], batch["record"])
