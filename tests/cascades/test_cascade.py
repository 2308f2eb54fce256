"""The folder: strict when it is read, and changed a whole stage at a time."""

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


def test_stages_come_in_their_order_with_float32_parameters_of_the_float16_file(cascade, folder):
    assert list(cascade.stages) == list(CONFIGS)
    stored = tensors(folder / "decoder" / "params.safetensors")
    loaded = parameters.flatten(cascade.stages["decoder"].params)
    assert stored.keys() == loaded.keys()
    for name, value in stored.items():
        assert value.dtype == np.float16 and loaded[name].dtype == np.float32
        np.testing.assert_array_equal(value.astype(np.float32), loaded[name])


def test_bfloat16_networks_have_kernels_and_embeddings_of_their_type_and_exact_vectors(cascade, folder):
    low = load_cascade(folder, devices=cascade.devices, dtype="bfloat16")
    for name, stage in low.stages.items():
        exact = parameters.flatten(cascade.stages[name].params)
        for path, value in parameters.flatten(stage.params).items():
            vector = path.endswith(("scale", "bias", "null_image", "query"))
            assert value.dtype == (np.float32 if vector else jnp.bfloat16), path
            np.testing.assert_array_equal(value, np.asarray(exact[path]).astype(value.dtype), err_msg=path)


def test_answers_of_rounded_kernels_are_as_near_as_those_of_bfloat16_networks(cascade, folder):
    low, rng = load_cascade(folder, devices=cascade.devices, dtype="bfloat16"), np.random.default_rng(0)
    for stage in list(cascade.stages.values())[1:]:
        inputs = stage.module.example_inputs()
        drawn = jax.tree.map(lambda x: rng.standard_normal(x.shape) if x.dtype == np.float32 else x, inputs)
        in_bfloat16 = low.stages[stage.name].module

        def answer(module, params, drawn=drawn):
            return np.asarray(jax.jit(module.apply)({"params": params}, **drawn))

        right = answer(stage.module, stage.params)
        of_exact, of_rounded = (
            np.sqrt(np.mean((answer(in_bfloat16, params) - right) ** 2))
            for params in (stage.params, low.stages[stage.name].params)
        )
        assert 0 < of_rounded < 1.5 * of_exact < 0.03 * np.sqrt(np.mean(right**2)), stage.name


def test_missing_extra_and_misshapen_tensors_are_named(copy):
    path = copy / "decoder" / "params.safetensors"
    stored = tensors(path)
    stored["unet/conv_in/bias"] = stored["unet/conv_in/bias"][:3]
    stored["unet/stranger"] = stored.pop("null_image")
    parameters.save(path, parameters.unflatten(stored))
    with pytest.raises(ValueError) as error:
        load_cascade(copy)
    for part in ("missing: null_image", "left over: unet/stranger", "unet/conv_in/bias [3] instead of [16]"):
        assert part in str(error.value)


def test_unknown_source_names_what_is_bundled():
    with pytest.raises(ValueError, match="cascade 'nowhere' is no folder with a cascade.json and not bundled; known:"):
        load_cascade("nowhere")


@pytest.mark.parametrize("name", ["clip", "tokenizer"])
def test_a_cascade_is_opened_with_nothing_of_anothers(copy, name):
    with pytest.raises(ValueError, match=f"^{name} is 'mine', and .* is a cascade, which brings its own$"):
        load_cascade(copy, **{name: "mine"})


def test_damaged_index_other_schema_and_unknown_stage_are_refused(copy):
    with pytest.raises(ValueError, match="stage prior is not in .*known: clip, diffusion_prior"):
        load_cascade(copy, stages=["prior"])
    (copy / "cascade.json").write_text(json.dumps({"schema": 99, "stages": []}))
    with pytest.raises(ValueError, match="has schema 99 and must have 2"):
        load_cascade(copy)
    (copy / "cascade.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        load_cascade(copy)


def test_a_stage_is_replaced_and_the_others_stay(copy, cascade):
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
def test_stage_of_another_clip_is_refused(copy, cascade, dtype):
    digest = parameters.digest(cascade.stages["clip"].params)
    rewrite(copy / "decoder" / "config.json", lambda config: config["encoders"]["clip"].update(digest=digest))
    load_cascade(copy, dtype=dtype)
    halved = {name: value / 2 for name, value in tensors(copy / "clip" / "params.safetensors").items()}
    clip = dataclasses.replace(tiny.files("clip", parameters.unflatten(halved)), tokenizer=copy / "clip/tokenizer")
    write_stages(copy, {"clip": clip})
    with pytest.raises(ValueError, match=f"decoder was trained beside a CLIP of digest {digest}, and clip has"):
        load_cascade(copy, dtype=dtype)
    assert load_clip(copy / "clip").module.embed_dim == 16  # by itself it is whole


def test_what_a_stages_config_and_the_index_lack_is_named(copy):
    extras = copy / "diffusion_prior" / "extras.safetensors"
    parameters.save(extras, {"statistics": {"mean": np.zeros(16), "std": np.ones(15)}})
    with pytest.raises(ValueError, match=r"extras.safetensors' do not fit .*statistics/std \[15\] instead of \[16\]"):
        load_cascade(copy)
    rewrite(copy / "decoder" / "config.json", lambda config: config.pop("sampling"))
    with pytest.raises(ValueError, match="config.json' lacks sampling"):
        load_cascade(copy)
    rewrite(copy / "decoder" / "config.json", lambda config: config.pop("model"))
    with pytest.raises(ValueError, match="config.json' lacks model"):
        load_cascade(copy)


def test_unknown_sampling_setting_names_the_known_ones(copy):
    rewrite(copy / "decoder" / "config.json", lambda config: config["sampling"].update(guidance=3.0))
    with pytest.raises(ValueError, match="sampling has no field guidance; known: sampler, steps, guidance_scale"):
        load_cascade(copy, stages=["decoder"])


def test_clip_opens_from_the_cascade_and_from_its_own_folder(folder):
    prompts = ["a red circle", "a green ring"]
    whole, alone = (encode_text(load_clip(source), prompts) for source in (folder, folder / "clip"))
    np.testing.assert_array_equal(whole, alone)
    assert np.max(np.abs(whole[0] - whole[1])) > 1e-3


def test_embeddings_do_not_depend_on_the_batch(folder):
    clip = load_clip(folder)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), np.uint8)
    together = encode_image(clip, pictures)
    np.testing.assert_allclose(encode_image(clip, pictures[3:4])[0], together[3], atol=1e-5)
    assert np.max(np.abs(together[2] - together[3])) > 1e-3
    with pytest.raises(ValueError, match=r"images are float64 \[1, 2\]; uint8 \[N, H, W, 3\] is wanted"):
        encode_image(clip, np.zeros((1, 2)))


def test_cascade_without_a_prior_says_so(copy):
    index = json.loads((copy / "cascade.json").read_text())
    index["stages"].remove("diffusion_prior")
    (copy / "cascade.json").write_text(json.dumps(index))
    from unclip_jax.cascades.text_to_image import text_to_image

    opened = load_cascade(copy)
    with pytest.raises(ValueError, match="has no prior; it has: clip, decoder"):
        text_to_image(opened, ["a ring"])
    embeddings = np.ones((1, 16), np.float32)
    assert text_to_image(opened, ["a ring"], image_embeddings=embeddings).shape == (1, 16, 16, 3)
