"""Cascade folders of schema 1, one per weight family, compared with the outputs of version 0.1.0."""

import collections
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file

from tests.cascades.schema_1.outputs import opened, outputs
from unclip_jax import parameters
from unclip_jax.cascades.folder import read_stages
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.text_to_image import text_to_image

FOLDER = pathlib.Path(__file__).parent / "schema_1"
EXPECTED = dict(np.load(FOLDER / "expected.npz"))


@pytest.fixture(scope="module")
def found():
    return outputs(FOLDER)


def test_expected_outputs_are_complete(found):
    assert set(found) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_schema_1_folder_matches_outputs_of_version_0_1_0(found, name):
    output, expected = found[name], EXPECTED[name]
    assert (output.shape, output.dtype) == (expected.shape, expected.dtype)
    if expected.dtype == np.uint8:
        assert np.mean((expected > 0) & (expected < 255)) > 0.05
        assert np.max(np.abs(output.astype(int) - expected.astype(int))) <= 1
    else:
        np.testing.assert_allclose(output, expected, atol=1e-4)


def test_schema_1_classifier_loads_with_stored_shapes():
    cascade = opened(FOLDER / "guided_diffusion_classifier")
    assert list(cascade.stages) == ["classifier"]
    stored = load_file(FOLDER / "guided_diffusion_classifier" / "classifier" / "params.safetensors")
    loaded = jax.tree.leaves(cascade.stages["classifier"].params)
    shapes = [collections.Counter(np.shape(leaf) for leaf in leaves) for leaves in (stored.values(), loaded)]
    assert shapes[0] == shapes[1]


def test_schema_1_folders_stay_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= 200_000


def test_writing_a_stage_upgrades_folder_and_keeps_tensor_files(tmp_path):
    copy = shutil.copytree(FOLDER / "karlo", tmp_path / "karlo")
    before = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*.safetensors")}
    name, again = "upsampler_8_to_16", read_stages(epath.Path(copy))["upsampler_8_to_16"]
    files = [again.folder / f"{file}.safetensors" for file in ("params", "params_last")]
    tensors = [parameters.unflatten(load_file(file)) for file in files]
    write_stages(copy, {name: StageFiles(again.spec, *tensors, dtype=None)}, description="tiny")

    index = json.loads((copy / "cascade.json").read_text())
    assert index == {"schema": 2, "stages": list(read_stages(epath.Path(FOLDER / "karlo"))), "description": "tiny"}
    assert {json.loads((copy / stage / "config.json").read_text())["schema"] for stage in index["stages"]} == {2}
    after = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*.safetensors")}
    assert after.pop(pathlib.Path("diffusion_prior/extras.safetensors"))
    assert after == before
    assert not (copy / "tokenizer").exists()
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (copy / "clip" / "tokenizer" / file).read_bytes() == (FOLDER / "karlo/tokenizer" / file).read_bytes()

    def image(folder):
        cascade = load_cascade(folder, devices=jax.local_devices()[:1], dtype="float32")
        return text_to_image(cascade, ["a"], steps={"prior": 2, "decoder": 2, name: 2})

    np.testing.assert_array_equal(image(copy), image(FOLDER / "karlo"))
