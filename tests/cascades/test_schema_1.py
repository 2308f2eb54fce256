"""Cascade folders of schema 1, one for each weight family, load and generate what version 0.1.0 generated from them."""

import collections
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.cascades.schema_1.outputs import opened, outputs

FOLDER = pathlib.Path(__file__).parent / "schema_1"
EXPECTED = dict(np.load(FOLDER / "expected.npz"))


@pytest.fixture(scope="module")
def found():
    return outputs(FOLDER)


def test_outputs_are_complete(found):
    assert set(found) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_schema_1_folder_generates_the_same(found, name):
    output, expected = found[name], EXPECTED[name]
    assert (output.shape, output.dtype) == (expected.shape, expected.dtype)
    if expected.dtype == np.uint8:
        assert np.mean((expected > 0) & (expected < 255)) > 0.05
        assert np.max(np.abs(output.astype(int) - expected.astype(int))) <= 1
    else:
        np.testing.assert_allclose(output, expected, atol=1e-4)


def test_schema_1_classifier_loads_with_its_shapes():
    cascade = opened(FOLDER / "guided_diffusion_classifier")
    assert list(cascade.stages) == ["classifier"]
    stored = load_file(FOLDER / "guided_diffusion_classifier" / "classifier" / "params.safetensors")
    loaded = jax.tree.leaves(cascade.stages["classifier"].params)
    shapes = [collections.Counter(np.shape(leaf) for leaf in leaves) for leaves in (stored.values(), loaded)]
    assert shapes[0] == shapes[1]


def test_schema_1_folders_stay_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= 200_000
