"""Saving and loading of parameters, their digest, and errors for files that do not match."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from unclip_jax import parameters

TREE = {
    "a": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3), "bias": np.float32([0.5, -1.25, 3.0])},
    "scale": np.float32(2.5),
}
SHAPES = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, TREE))


def test_load_restores_saved_parameters_exactly(tmp_path):
    parameters.save(tmp_path / "p.safetensors", TREE)
    loaded = parameters.load(tmp_path / "p.safetensors", SHAPES)
    assert parameters.digest(loaded) == parameters.digest(TREE) == parameters.digest_of_file(tmp_path / "p.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]


def test_digest_depends_on_values_names_and_dtypes():
    changed = jax.tree.map(np.copy, TREE)
    changed["a"]["bias"].view(np.uint32)[0] ^= 1
    renamed = {"b": TREE["a"], "scale": TREE["scale"]}
    half = jax.tree.map(lambda x: x.astype(np.float16), TREE)
    digests = {parameters.digest(tree) for tree in (TREE, changed, renamed, half)}
    assert len(digests) == 4


def test_load_converts_half_precision_to_float32(tmp_path):
    parameters.save(tmp_path / "p.safetensors", TREE, dtype=np.float16)
    loaded = parameters.load(tmp_path / "p.safetensors", SHAPES)
    assert loaded["a"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(loaded["a"]["kernel"], TREE["a"]["kernel"])  # these values are exact in float16
    assert parameters.digest_of_file(tmp_path / "p.safetensors") == parameters.digest(loaded)


def test_load_reads_from_an_object_store(tmp_path):
    tree = {"a": np.arange(3.0, dtype=np.float32)}
    parameters.save(tmp_path / "params.safetensors", tree)

    def copy(*paths, overwrite):
        source, target = paths[-2:]
        assert str(source) == "gs://bucket/params.safetensors"
        shutil.copy(tmp_path / "params.safetensors", target)

    with epath.testing.mock_epath(copy=copy):
        loaded = parameters.load("gs://bucket/params.safetensors", tree)
        assert parameters.digest_of_file("gs://bucket/params.safetensors") == parameters.digest(tree)
    np.testing.assert_array_equal(loaded["a"], tree["a"])


def test_load_error_lists_all_mismatched_tensors(tmp_path):
    file = {"a": {"kernel": np.zeros((3, 2), np.float32), "scale": np.zeros(3, np.float32)}, "scale": np.float32(0)}
    parameters.save(tmp_path / "p.safetensors", file)
    with pytest.raises(ValueError) as error:
        parameters.load(tmp_path / "p.safetensors", SHAPES)
    for part in ("Missing: a/bias", "Unexpected: a/scale", "Wrong shape: a/kernel [3, 2] instead of [2, 3]"):
        assert part in str(error.value)


def test_load_rejects_files_that_are_not_safetensors(tmp_path):
    (tmp_path / "p.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="not a safetensors file"):
        parameters.load(tmp_path / "p.safetensors", SHAPES)


def test_on_devices_transfers_large_parameters_in_pieces_without_copies(tmp_path, monkeypatch):
    tree = {"kernel": np.random.default_rng(0).standard_normal((40, 32)).astype(np.float16), "scale": np.ones(4)}
    parameters.save(tmp_path / "p.safetensors", tree)
    monkeypatch.setattr(parameters, "PIECE", 1024)
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()[:2]), ("device",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    to_devices = parameters.on_devices(sharding, lambda name: {"kernel": jnp.bfloat16, "scale": jnp.float32}[name])
    fill, rows = parameters._with_rows, {"kernel": [], "scale": []}

    def in_place(whole, *rest):
        filled = fill(whole, *rest)
        assert whole.is_deleted()
        return filled

    def place(name, shape, pieces):
        def watched():
            for piece in pieces:
                rows[name].append(len(piece))
                yield piece

        return to_devices(name, shape, watched())

    monkeypatch.setattr(parameters, "_with_rows", in_place)
    placed = parameters.load(tmp_path / "p.safetensors", tree, place=place)
    assert rows == {"kernel": [8] * 5, "scale": [4]}
    np.testing.assert_array_equal(placed["kernel"], tree["kernel"].astype(jnp.bfloat16))
    assert placed["kernel"].dtype == jnp.bfloat16 and placed["scale"].dtype == np.float32
    assert placed["kernel"].sharding == placed["scale"].sharding == sharding
    exact = parameters.digest(jax.tree.map(np.float32, tree))
    assert parameters.digest_of_file(tmp_path / "p.safetensors") == exact


def test_count_is_the_number_of_elements():
    assert parameters.count(SHAPES) == 10
