"""CLIP with weights of Hugging Face and OpenCLIP, compared with their outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from tests.golden.drawn import drawn
from tests.pretrained.golden_networks import GOLDEN, TOLERANCE, load, published
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax import parameters
from unclip_jax.models.clip import CLIP
from unclip_jax.pretrained.clip.hugging_face import hugging_face_fields, hugging_face_rules
from unclip_jax.pretrained.clip.open_clip import open_clip_fields
from unclip_jax.pretrained.clip.openai import openai_fields, openai_rules
from unclip_jax.pretrained.rules import check, import_params

NAMES = sorted(path.stem for path in GOLDEN.glob("clip-*.npz"))
# The outputs do not depend on these tensors. The softmax is invariant to the bias of keys.
WITHOUT_EFFECT = ("logit_scale", "self_attn.k_proj.bias")


def fields_and_rules(name, config, tensors):
    if "hugging-face" in name:
        config = transformers.CLIPConfig.from_dict(config)
        fields = hugging_face_fields(config.text_config, config.vision_config, config.projection_dim)
        return fields, hugging_face_rules(fields)
    fields = open_clip_fields(tensors, config)
    return fields, openai_rules(fields)


def network(name, config, arrays):
    """Returns the module and a function that converts arrays by name to its parameters."""
    fields, rules = fields_and_rules(name, config, lazy_tensors(arrays))
    module = CLIP(**fields)
    expected = expected_parameters(module)
    return module, lambda arrays: import_params(lazy_tensors(arrays), rules, expected, what=name)


def expected_parameters(module):
    pixels = jnp.zeros((1, module.image_size, module.image_size, 3))
    tokens = jnp.zeros((1, module.context_length), jnp.int32)
    return jax.eval_shape(module.init, jax.random.key(0), pixels, tokens)["params"]


def outputs(module, params, golden):
    image, text, _ = module.apply({"params": params}, golden["pixels"], golden["tokens"])
    return {"image": image, "pooled": text.pooled, "sequence": text.sequence}


@pytest.mark.parametrize("name", NAMES)
def test_clip_matches_reference_outputs(name):
    golden, config, arrays = load(name)
    module, params_of = network(name, config, arrays)
    actual = outputs(module, params_of(arrays), golden)
    for output in actual.keys() & set(golden.files):
        difference = np.max(np.abs(actual[output] - golden[output]))
        assert difference <= TOLERANCE * np.max(np.abs(golden[output])), output


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_affects_clip_outputs(name):
    """Changing a tensor changes an output by ten times the tolerance, except for the tensors in WITHOUT_EFFECT."""
    golden, config, arrays = load(name)
    module, params_of = network(name, config, arrays)
    run = jax.jit(lambda params: outputs(module, params, golden))
    before = run(params_of(arrays))
    for tensor, array in arrays.items():
        changed = {**arrays, tensor: np.asarray(array + drawn(f"{tensor} changed", array.shape), np.float32)}
        after = run(params_of(changed))
        change = max(float(np.max(np.abs(after[key] - before[key])) / np.max(np.abs(before[key]))) for key in before)
        if tensor.endswith(WITHOUT_EFFECT):
            assert change < TOLERANCE, tensor
        else:
            assert change >= 10 * TOLERANCE, tensor


@pytest.mark.parametrize(
    ("keys", "head_width", "text_heads", "count"),
    [
        ("openai-clip-vit-l-14", 64, None, 427_616_513),
        ("open-clip-vit-h-14", 80, 16, 986_109_441),
        ("open-clip-vit-bigg-14", 104, 20, 2_539_567_105),
    ],
)
def test_published_tensors_match_clip(keys, head_width, text_heads, count):
    tensors = published(keys)
    fields = openai_fields(tensors, image_head_width=head_width, text_heads=text_heads, activation="gelu")
    expected = expected_parameters(CLIP(**fields))
    check(tensors, openai_rules(fields), expected, what=keys)
    assert parameters.count(expected) == count
