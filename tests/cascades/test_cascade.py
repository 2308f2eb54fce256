"""Cascade folders: strict loading, and replacement of single stages."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cascades import tiny
from tests.cascades.tiny import CONFIGS
from unclip_jax import parameters
from unclip_jax.cascades.embedding import encode_image, encode_text, load_clip
from unclip_jax.cascades.folder_writing import write_stages
from unclip_jax.cascades.loading import load_cascade


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def tensors(path) -> dict:
    from safetensors import numpy

    return numpy.load_file(path)


def test_load_cascade_returns_ordered_stages_with_float32_params(cascade, folder):
    assert list(cascade.stages) == list(CONFIGS)
    stored = tensors(folder / "decoder" / "params.safetensors")
    loaded = parameters.flatten(cascade.stages["decoder"].params)
    assert stored.keys() == loaded.keys()
    for name, value in stored.items():
        assert value.dtype == np.float16 and loaded[name].dtype == np.float32
        np.testing.assert_array_equal(value.astype(np.float32), loaded[name])


def test_bfloat16_cascade_keeps_vectors_in_float32(cascade, folder):
    low = load_cascade(folder, devices=cascade.devices, dtype="bfloat16")
    for name, stage in low.stages.items():
        exact = parameters.flatten(cascade.stages[name].params)
        for path, value in parameters.flatten(stage.params).items():
            vector = path.endswith(("scale", "bias", "null_image", "query"))
            assert value.dtype == (np.float32 if vector else jnp.bfloat16), path
            np.testing.assert_array_equal(value, np.asarray(exact[path]).astype(value.dtype), err_msg=path)


def test_bfloat16_params_add_little_error_to_bfloat16_computation(cascade, folder):
    low, rng = load_cascade(folder, devices=cascade.devices, dtype="bfloat16"), np.random.default_rng(0)
    for stage in list(cascade.stages.values())[1:]:
        inputs = stage.module.example_inputs()
        inputs = jax.tree.map(lambda x: rng.standard_normal(x.shape) if x.dtype == np.float32 else x, inputs)
        in_bfloat16 = low.stages[stage.name].module

        def output(module, params, inputs=inputs):
            return np.asarray(jax.jit(module.apply)({"params": params}, **inputs))

        expected = output(stage.module, stage.params)
        exact_error, rounded_error = (
            np.sqrt(np.mean((output(in_bfloat16, params) - expected) ** 2))
            for params in (stage.params, low.stages[stage.name].params)
        )
        assert 0 < rounded_error < 1.5 * exact_error < 0.03 * np.sqrt(np.mean(expected**2)), stage.name


def test_missing_unexpected_and_misshapen_tensors_are_named(copy):
    path = copy / "decoder" / "params.safetensors"
    stored = tensors(path)
    stored["unet/conv_in/bias"] = stored["unet/conv_in/bias"][:3]
    stored["unet/stranger"] = stored.pop("null_image")
    parameters.save(path, parameters.unflatten(stored))
    with pytest.raises(ValueError) as error:
        load_cascade(copy)
    for part in ("Missing: null_image", "Unexpected: unet/stranger", "unet/conv_in/bias [3] instead of [16]"):
        assert part in str(error.value)


def test_unknown_source_error_lists_bundled_cascades():
    with pytest.raises(ValueError, match="cascade must be a bundled cascade .*, got 'nowhere'. Bundled: "):
        load_cascade("nowhere")


@pytest.mark.parametrize("name", ["clip", "tokenizer"])
def test_cascade_folder_rejects_separate_clip_and_tokenizer(copy, name):
    with pytest.raises(ValueError, match=f"^{name} must be None for the cascade .*, got 'mine'.$"):
        load_cascade(copy, **{name: "mine"})


def test_invalid_index_wrong_schema_and_unknown_stage_are_rejected(copy):
    with pytest.raises(ValueError, match="Unknown stage prior in .* Available: clip, diffusion_prior"):
        load_cascade(copy, stages=["prior"])
    (copy / "cascade.json").write_text(json.dumps({"schema": 99, "stages": []}))
    with pytest.raises(ValueError, match="schema must be at most 2, got 99"):
        load_cascade(copy)
    (copy / "cascade.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        load_cascade(copy)


def test_write_stages_replaces_one_stage_and_keeps_the_others(copy, cascade):
    doubled = {name: 2 * value for name, value in tensors(copy / "decoder" / "params.safetensors").items()}
    write_stages(copy, {"decoder": tiny.files("decoder", parameters.unflatten(doubled))})
    changed = load_cascade(copy)
    assert list(changed.stages) == list(CONFIGS)
    for name in CONFIGS:
        same = parameters.digest(changed.stages[name].params) == parameters.digest(cascade.stages[name].params)
        assert same == (name != "decoder")
    assert not [path.name for path in copy.iterdir() if path.name.startswith(".")]


def rewrite(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stage_trained_with_different_clip_is_rejected(copy, cascade, dtype):
    digest = parameters.digest(cascade.stages["clip"].params)
    rewrite(copy / "decoder" / "config.json", lambda config: config["encoders"]["clip"].update(digest=digest))
    load_cascade(copy, dtype=dtype)
    halved = {name: value / 2 for name, value in tensors(copy / "clip" / "params.safetensors").items()}
    clip = dataclasses.replace(tiny.files("clip", parameters.unflatten(halved)), tokenizer=copy / "clip/tokenizer")
    write_stages(copy, {"clip": clip})
    with pytest.raises(
        ValueError, match=f"clip of cascade .* must have digest {digest}, with which decoder was trained"
    ):
        load_cascade(copy, dtype=dtype)
    assert load_clip(copy / "clip").module.embed_dim == 16  # valid on its own


def test_missing_config_sections_and_wrong_extras_are_named(copy):
    extras = copy / "diffusion_prior" / "extras.safetensors"
    parameters.save(extras, {"statistics": {"mean": np.zeros(16), "std": np.ones(15)}})
    with pytest.raises(ValueError, match=r"extras.safetensors' do not match .*statistics/std \[15\] instead of \[16\]"):
        load_cascade(copy)
    rewrite(copy / "decoder" / "config.json", lambda config: config.pop("sampling"))
    with pytest.raises(ValueError, match="config.json' lacks sampling"):
        load_cascade(copy)
    rewrite(copy / "decoder" / "config.json", lambda config: config.pop("model"))
    with pytest.raises(ValueError, match="config.json' lacks model"):
        load_cascade(copy)


def test_unknown_sampling_field_is_rejected(copy):
    rewrite(copy / "decoder" / "config.json", lambda config: config["sampling"].update(guidance=3.0))
    with pytest.raises(ValueError, match="sampling has no field guidance. Available: sampler, steps, guidance_scale"):
        load_cascade(copy, stages=["decoder"])


def test_load_clip_accepts_cascade_folder_and_stage_folder(folder):
    prompts = ["a red circle", "a green ring"]
    whole, alone = (encode_text(load_clip(source), prompts) for source in (folder, folder / "clip"))
    np.testing.assert_array_equal(whole, alone)
    assert np.max(np.abs(whole[0] - whole[1])) > 1e-3


def test_embeddings_do_not_depend_on_the_batch(folder):
    clip = load_clip(folder)
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), np.uint8)
    together = encode_image(clip, images)
    np.testing.assert_allclose(encode_image(clip, images[3:4])[0], together[3], atol=1e-5)
    assert np.max(np.abs(together[2] - together[3])) > 1e-3
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, H, W, 3\], got float64 \[1, 2\]"):
        encode_image(clip, np.zeros((1, 2)))


def test_cascade_without_prior_requires_image_embeddings(copy):
    index = json.loads((copy / "cascade.json").read_text())
    index["stages"].remove("diffusion_prior")
    (copy / "cascade.json").write_text(json.dumps(index))
    from unclip_jax.cascades.text_to_image import text_to_image

    opened = load_cascade(copy)
    with pytest.raises(ValueError, match="has no prior. Available stages: clip, decoder"):
        text_to_image(opened, ["a ring"])
    embeddings = np.ones((1, 16), np.float32)
    assert text_to_image(opened, ["a ring"], image_embeddings=embeddings).shape == (1, 16, 16, 3)
