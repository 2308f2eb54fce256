"""Chunks of rows over devices, and the random key of each row."""

import jax
import numpy as np
import pytest

from unclip_jax import rng
from unclip_jax.sampling.rows import Chunks, SampleRequest, padded_size, row_keys, rows_per_device


@pytest.mark.parametrize(
    ("rows", "limit", "size"), [(1, 64, 1), (2, 64, 2), (3, 64, 4), (5, 64, 8), (64, 64, 64), (65, 64, 64), (3, 2, 2)]
)
def test_rows_are_padded_to_powers_of_two(rows, limit, size):
    assert padded_size(rows, limit) == size


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((16, 16, 3), 256), ((17, 16, 3), 64), ((16, 24, 3), 64), ((64, 64, 3), 64), ((256, 256, 3), 16),
        ((64, 256, 3), 16), ((512, 512, 3), 1), ((2000, 8, 3), 1), ((768,), 256),
    ],
)  # fmt: skip
def test_rows_per_device_decreases_with_image_size(shape, rows):
    assert rows_per_device(shape) == rows


@pytest.mark.parametrize(
    ("total", "limit", "devices", "size", "chunks"),
    [
        (5, 2, 2, 2, [[[0, 1], [2, 3]], [[4, 4], [4, 4]]]),
        (5, 4, 2, 4, [[[0, 1, 2, 3], [4, 4, 4, 4]]]),
        (3, 8, 1, 4, [[[0, 1, 2, 2]]]),
        (1, 8, 4, 1, [[[0], [0], [0], [0]]]),
        (4, 1, 2, 1, [[[0], [1]], [[2], [3]]]),
        (9, 4, 2, 4, [[[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 8, 8, 8], [8, 8, 8, 8]]]),
    ],
)
def test_chunks_contain_rows_in_order_and_pad_with_the_last(total, limit, devices, size, chunks):
    rows = Chunks.of(total, limit, tuple(jax.local_devices()[:devices]))
    assert (rows.size, len(rows)) == (size, len(chunks))
    spread = list(rows.spread({"index": np.arange(total), "pair": np.arange(2 * total).reshape(total, 2)}))
    np.testing.assert_array_equal([chunk["index"] for chunk in spread], chunks)
    joined = rows.join(spread)
    np.testing.assert_array_equal(joined["index"], np.arange(total))
    np.testing.assert_array_equal(joined["pair"], np.arange(2 * total).reshape(total, 2))


def test_spread_puts_different_rows_on_each_device():
    devices = tuple(jax.local_devices()[2:4])
    (chunk,) = Chunks.of(4, 8, devices).spread(np.arange(4))
    placed = {shard.device: np.ravel(shard.data).tolist() for shard in chunk.addressable_shards}
    assert placed == {devices[0]: [0, 1], devices[1]: [2, 3]}


def key_of(seed, stage, image, candidate):
    key = rng.named(jax.random.key(seed), stage)
    return jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, image), candidate))


def test_row_key_depends_on_seed_stage_image_and_candidate():
    request = SampleRequest(
        seed=[3, 3, 5, 4294967295], image_ids=np.array([7, 7, 8, 0]), candidate_ids=np.array([0, 1, 0, 2])
    )
    keys = jax.random.key_data(row_keys(request.row_ids("decoder")))
    expected = [key_of(3, "decoder", 7, 0), key_of(3, "decoder", 7, 1), key_of(5, "decoder", 8, 0)]
    np.testing.assert_array_equal(keys, [*expected, key_of(4294967295, "decoder", 0, 2)])
    others = jax.random.key_data(row_keys(request.row_ids("prior")))
    assert np.all(np.any(others != keys, axis=1))


def test_single_seed_applies_to_all_rows_and_candidate_defaults_to_zero():
    request = SampleRequest(seed=np.int64(3), image_ids=np.arange(2))
    keys = jax.random.key_data(row_keys(request.row_ids("decoder")))
    np.testing.assert_array_equal(keys, [key_of(3, "decoder", 0, 0), key_of(3, "decoder", 1, 0)])
    assert request.all_devices() == tuple(jax.local_devices())
    first = jax.local_devices()[:1]
    assert SampleRequest(seed=0, image_ids=np.arange(2), devices=first).all_devices() == tuple(first)
