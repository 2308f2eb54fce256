"""A list of records is a source: most of what is here needs no data set."""

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


def picture(index):
    """Noise, with the record's number in the red channel."""
    made = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
    made[..., 0] = index
    return made


RECORDS = [Record(picture(index), (f"one {index}", f"two {index}", f"three {index}")) for index in range(COUNT)]


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


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            assert one[name].dtype == other[name].dtype


def test_fields_types_and_shapes(tokenizer):
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


def test_rows_are_numbered_through_all_steps_and_epochs():
    batches = take(make(), 7, start=3)
    np.testing.assert_array_equal([batch["row"] for batch in batches], np.arange(12, 40).reshape(7, 4))


def test_every_epoch_shows_every_record_once_in_another_order():
    records = np.concatenate([batch["record"] for batch in take(make(), 10)]).reshape(4, COUNT)
    for epoch in records:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in records}) == 4
    other = np.concatenate([batch["record"] for batch in take(make(seed=6), 10)]).reshape(4, COUNT)
    assert (records != other).any()


def test_without_shuffling_the_records_come_in_their_order():
    records = np.concatenate([batch["record"] for batch in take(make(shuffle=False), 5)])
    np.testing.assert_array_equal(records, [*range(COUNT), *range(COUNT)])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_see_the_batches_of_one(processes, tokenizer):
    config = CROPS | {"captions": True}
    whole = take(make(config, tokenizer=tokenizer), 6, start=1)
    parts = [
        take(make(config, tokenizer=tokenizer, process_index=index, process_count=processes), 6, start=1)
        for index in range(processes)
    ]
    joined = [{name: np.concatenate([part[name] for part in step]) for name in step[0]} for step in zip(*parts)]
    assert_same(joined, whole)


def test_a_stream_opened_at_a_step_is_the_stream_continued():
    stream = make()
    assert_same(take(stream, 4, start=5), take(stream, 9)[5:])


def test_threads_change_nothing():
    assert_same(take(make({"threads": 4, "prefetch": 8} | CROPS), 8, start=2), take(make(), 8, start=2))


@pytest.mark.slow
def test_worker_processes_change_nothing(tokenizer):
    config = CROPS | {"captions": True}
    with_workers = make({"workers": 2, **config}, tokenizer=tokenizer, source=CachedSource(RECORDS))
    assert_same(take(with_workers, 4, start=2), take(make(config, tokenizer=tokenizer), 4, start=2))


def test_a_stream_that_is_dropped_takes_its_threads_along():
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


def test_a_share_of_the_rows_is_blurred_and_the_same_ones_at_any_batch_size():
    half = CROPS | {"crop_fraction": 1.0, "blur": {"kernel": 3, "sigma": 0.6, "share": 0.5}}

    def blurred(batches):
        found = {}
        for batch in batches:
            for row, image, low_res in zip(batch["row"], batch["image"], batch["low_res"]):
                means = image.astype(np.float64).reshape(4, 4, 4, 4, 3).mean((1, 3)) / 127.5 - 1
                found[int(row)] = not np.allclose(low_res, means, atol=1e-6)
                wanted = gaussian_blur(means, kernel=3, sigma=0.6) if found[int(row)] else means
                np.testing.assert_allclose(low_res, wanted, atol=1e-6)
        return found

    found = blurred(take(make(half), 50))
    assert 70 <= sum(found.values()) <= 130  # of 200: 100 give or take four deviations
    assert blurred(take(make(half, global_batch=8), 25)) == found


def test_noise_of_every_strength_up_to_the_largest_lies_on_the_blurred_picture():
    noised = CROPS | {"crop_fraction": 1.0, "noise": 0.3}
    deviations = {}
    for batch in take(make(noised), 50):
        for row, image, low_res in zip(batch["row"], batch["image"], batch["low_res"]):
            means = image.astype(np.float64).reshape(4, 4, 4, 4, 3).mean((1, 3)) / 127.5 - 1
            clean = gaussian_blur(means, kernel=3, sigma=0.6)
            inside = (np.abs(clean) < 0.4) & (np.abs(low_res) < 1.0)  # where nothing was clipped
            deviations[int(row)] = np.std((low_res - clean)[inside])
            assert np.abs(low_res).max() <= 1.0
    found = np.asarray(list(deviations.values()))
    # An even draw from 0 to 0.3 has the mean 0.15 and the deviation 0.087; 200 of them, give or take four errors.
    assert abs(found.mean() - 0.15) < 0.03 and abs(found.std() - 0.087) < 0.03 and found.max() < 0.45
    assert_same(take(make(noised, global_batch=8), 1)[:1], [
        {name: np.concatenate([part[name] for part in take(make(noised), 2)]) for name in take(make(noised), 1)[0]}
    ])  # fmt: skip


def test_a_share_of_the_rows_is_degraded_by_bsr_from_their_own_number():
    mixed = CROPS | {"crop_fraction": 1.0, "bsr": 0.5}
    degraded = {}
    for batch in take(make(mixed), 50):
        for row, image, low_res in zip(batch["row"], batch["image"], batch["low_res"]):
            means = image.astype(np.float64).reshape(4, 4, 4, 4, 3).mean((1, 3)) / 127.5 - 1
            degraded[int(row)] = not np.allclose(low_res, gaussian_blur(means, kernel=3, sigma=0.6), atol=1e-6)
            if degraded[int(row)]:
                wanted = bsr.degrade(image, 4, row_rng(5, int(row), "bsr"))
                np.testing.assert_array_equal(low_res, wanted)
    assert 70 <= sum(degraded.values()) <= 130  # of 200: 100 give or take four deviations


def test_low_res_is_the_blurred_mean_of_the_same_crop():
    for batch in take(make(), 3):
        for image, low_res in zip(batch["image"], batch["low_res"]):
            means = image.astype(np.float64).reshape(2, 4, 2, 4, 3).mean((1, 3)) / 127.5 - 1
            np.testing.assert_allclose(low_res, gaussian_blur(means, kernel=3, sigma=0.6), atol=1e-6)
    plain = take(make(CROPS | {"blur": None}), 1)[0]
    means = plain["image"].astype(np.float64).reshape(4, 2, 4, 2, 4, 3).mean((2, 4)) / 127.5 - 1
    np.testing.assert_allclose(plain["low_res"], means, atol=1e-6)
    assert np.abs(plain["low_res"] - take(make(), 1)[0]["low_res"]).max() > 0.01


def test_crops_are_windows_of_the_record_on_the_low_resolution_grid():
    corners = set()
    for batch in take(make(), 25):
        for record, image in zip(batch["record"], batch["image"]):
            whole = picture(record)
            found = [
                (top, left)
                for top in range(9)
                for left in range(9)
                if (whole[top : top + 8, left : left + 8] == image).all()
            ]
            assert len(found) == 1
            corners.update(found)
    assert corners == {(top, left) for top in (0, 4, 8) for left in (0, 4, 8)}


def test_clip_image_is_the_whole_scene():
    batch = take(make(CROPS | {"clip_size": 16}), 1)[0]
    for record, image in zip(batch["record"], batch["clip_image"]):
        np.testing.assert_array_equal(image, picture(record))


def test_negative_caption_belongs_to_the_caption(tokenizer):
    records = [record._replace(negative_captions=record.captions[::-1]) for record in RECORDS]
    config = {"image_size": 16, "captions": True, "negative_captions": True, "source": "captioned_shapes/contrasts"}
    seen = set()
    for batch in take(make(config, source=records, tokenizer=tokenizer), 20):
        for record, tokens, wrong in zip(batch["record"], batch["tokens"].tolist(), batch["wrong_tokens"].tolist()):
            choices = tokenizer.encode(records[record].captions).tolist()
            seen.add(choices.index(tokens))
            assert wrong == choices[::-1][choices.index(tokens)]
    assert seen == {0, 1, 2}


def test_scene_targets_are_those_of_the_record():
    records = [record._replace(scene_targets=np.float32([number, 7.0])) for number, record in enumerate(RECORDS)]
    for batch in take(make({"image_size": 16, "scene_targets": True}, source=records), 3):
        np.testing.assert_array_equal(batch["moments"], [[number, 7.0] for number in batch["record"]])
    assert "moments" not in take(make({"image_size": 16}, source=records), 1)[0]


def test_captioned_shapes_provide_scene_targets():
    spec = DataSpec(source="captioned_shapes/tiny", scene_targets=True)
    source, scenes = open_source(spec, "test"), data_source("test", size="tiny", fields=("scene",))
    for number in (0, 5):
        wanted = scene_targets(Scene.from_json(scenes[number]["scene"]))
        np.testing.assert_array_equal(source[number].scene_targets, wanted)
    assert open_source(dataclasses.replace(spec, scene_targets=False), "test")[0].scene_targets is None


def test_captions_are_the_records_own_and_all_of_them_come(tokenizer):
    seen = set()
    for batch in take(make({"image_size": 16, "captions": True}, tokenizer=tokenizer), 40):
        for record, tokens in zip(batch["record"], batch["tokens"]):
            choices = [tokenizer.encode([caption])[0].tolist() for caption in RECORDS[record].captions]
            seen.add((int(record), choices.index(tokens.tolist())))
    assert len(seen) == 3 * COUNT


def test_flip_mirrors_half_of_the_rows_and_the_clip_image_with_them():
    mirrored = []
    for batch in take(make({"image_size": 16, "clip_size": 16, "flip": True}), 50):
        np.testing.assert_array_equal(batch["image"], batch["clip_image"])
        for record, image in zip(batch["record"], batch["image"]):
            mirror = (image == picture(record)[:, ::-1]).all()
            assert mirror or (image == picture(record)).all()
            mirrored.append(mirror)
    assert 70 <= sum(mirrored) <= 130  # of 200: 100 give or take four deviations


class Torn(list):
    """A source whose records 3 and 4 cannot be decoded."""

    def __getitem__(self, index):
        if index in (3, 4):
            raise OSError("image file is truncated")
        return super().__getitem__(index)


def test_a_record_that_cannot_be_read_is_replaced_by_the_next_and_named():
    with pytest.warns(UserWarning) as warned:
        batches = take(make(CROPS | {"max_unreadable": 0.2}, source=Torn(RECORDS), shuffle=False), 5)
    records = np.concatenate([batch["record"] for batch in batches])
    np.testing.assert_array_equal(records, [0, 1, 2, 5, 5, 5, 6, 7, 8, 9] * 2)
    assert [str(warning.message) for warning in warned] == [
        f"record {index} cannot be read, the next replaces it ({count} so far): OSError: image file is truncated"
        for count, index in ((1, 3), (2, 4))
    ]


def test_too_many_unreadable_records_end_the_run_with_the_list():
    message = (
        "2 of 10 records cannot be read, more than config.data.max_unreadable 0.19 of them allows: "
        "3: OSError: image file is truncated; 4: OSError: image file is truncated"
    )
    with pytest.warns(UserWarning, match="record 3"), pytest.raises(ValueError, match=message):
        take(make(CROPS | {"max_unreadable": 0.19}, source=Torn(RECORDS), shuffle=False), 5)


def test_a_source_without_a_readable_record_is_an_error():
    class Broken(list):
        def __getitem__(self, index):
            raise OSError("no such disk")

    with pytest.raises(ValueError, match="cannot be read; the last error was: OSError: no such"):
        make(source=Broken(RECORDS))


def test_a_cached_source_reads_a_record_once():
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
        ({"imagesize": 16}, "config.data has no field imagesize; known: .*image_size"),
        ({"image_size": 0}, "config.data.image_size must be a positive number of pixels, got 0"),
        ({"image_size": 16, "clip_size": -1}, "config.data.clip_size must be a positive number of pixels, got -1"),
        ({"image_size": 16, "crop_fraction": 0.3}, "crop_fraction of image_size 16 must .* 0.3, which gives 4.8 px"),
        ({"image_size": 16, "crop_fraction": 1.5}, "crop_fraction of image_size 16 .*, got 1.5, which gives 24 px"),
        ({"image_size": 16, "low_res_size": 5}, "low_res_size must divide image_size 16, .* got 5"),
        ({"image_size": 16, "low_res_size": 4, "crop_fraction": 0.125}, "and their ratio the crop of 2 px"),
        ({"image_size": 16, "blur": {"kernel": 3, "sigma": 0.6}}, "blur applies to .* and needs low_res_size"),
        ({"image_size": 16, "bsr": 0.5}, "bsr applies to .* and needs low_res_size, which is None"),
        (CROPS | {"bsr": 2.0}, r"bsr must be in \[0, 1\], got 2.0"),
        ({"image_size": 16, "noise": 0.1}, "noise applies to .* and needs low_res_size, which is None"),
        (CROPS | {"noise": -0.1}, r"noise must be in \[0, 1\], got -0.1"),
        ({"image_size": 16, "low_res_size": 4, "blur": {"kernel": 3}}, "config.data.blur lacks sigma"),
        (CROPS | {"blur": {"kernel": 3, "sigma": 0.6, "share": 1.5}}, r"data.blur.share must be in \[0, 1\], got 1.5"),
        (CROPS | {"blur": {"kernel": 4, "sigma": 0.6}}, "config.data.blur.kernel is 4; an image of shape"),
        ({"image_size": 16, "captions": True, "flip": True}, "flip must be False with captions"),
        ({"image_size": 16, "captions": True, "negative_captions": True}, "negative_captions needs a .*contrasts"),
        ({"image_size": 16, "scene_targets": True, "flip": True}, "flip must be .* scene_targets"),
        ({"image_size": 16, "scene_targets": True, "source": "folder"}, "scene_targets needs a .* got source folder"),
        ({"image_size": 16, "captions": True}, "tokenizer must not be None if config.data.captions is True"),
        ({"image_size": 16, "threads": -1}, "config.data.threads must be at least 0, got -1"),
        ({"image_size": 32}, "image is 16 px, smaller than the required 32 px"),
    ],
)
def test_a_config_that_cannot_be_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        make(config)


@pytest.mark.parametrize("changes", [
    {},
    {"source": "embeddings"},
    {"clip_size": 8, "captions": True},
    {"low_res_size": 4},
    {"source": "captioned_shapes/contrasts", "captions": True, "negative_captions": True, "scene_targets": True},
])  # fmt: skip
def test_a_spec_names_the_fields_that_batches_have(changes, tokenizer):
    extra = {"negative_captions": ("x", "y", "z"), "scene_targets": np.float32([1.0])}
    embedded = {"image": None, "embedding": np.float32([1.0])}
    records = [record._replace(**extra, **(embedded if "embed" in str(changes) else {})) for record in RECORDS]
    spec = DataSpec(**{"image_size": 16, "threads": 0, **changes})
    batch = next(Pipeline(spec, "train", global_batch=2, seed=0, tokenizer=tokenizer, source=records).batches())
    assert set(batch) - {"row", "record"} == set(batch_fields(spec))


def test_bad_arguments_are_named():
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


def test_captioned_shapes_come_through_the_pipeline(tmp_path):
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
    ours, theirs = take(large, 1)[0], take(small, 1)[0]
    assert ours["image"].shape == (4, 256, 256, 3)
    np.testing.assert_array_equal(ours["clip_image"], theirs["image"])  # the thumbnail is the same shrinking


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
