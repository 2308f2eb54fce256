"""CLIP's towers with other people's weights answer as other people's code does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from tests.golden.drawn import drawn
from tests.pretrained.held import held
from tests.pretrained.peer_networks import GOLDEN, TOLERANCE, load, published
from unclip_jax import parameters
from unclip_jax.models.clip import CLIP
from unclip_jax.pretrained.clip.hugging_face import hugging_face_fields, hugging_face_rules
from unclip_jax.pretrained.clip.open_clip import open_clip_fields
from unclip_jax.pretrained.clip.openai import openai_fields, openai_rules
from unclip_jax.pretrained.rules import check, import_params

NAMES = sorted(path.stem for path in GOLDEN.glob("clip-*.npz"))
# The same number is added to every product of a query with a key, and the softmax takes it away.
MOVES_NOTHING = ("logit_scale", "self_attn.k_proj.bias")


def fields_and_rules(name, config, tensors):
    if "hugging-face" in name:
        config = transformers.CLIPConfig.from_dict(config)
        fields = hugging_face_fields(config.text_config, config.vision_config, config.projection_dim)
        return fields, hugging_face_rules(fields)
    fields = open_clip_fields(tensors, config)
    return fields, openai_rules(fields)


def network(name, config, arrays):
    """The module, and what makes its parameters of named arrays."""
    fields, rules = fields_and_rules(name, config, held(arrays))
    module = CLIP(**fields)
    expected = expected_parameters(module)
    return module, lambda arrays: import_params(held(arrays), rules, expected, what=name)


def expected_parameters(module):
    pixels = jnp.zeros((1, module.image_size, module.image_size, 3))
    tokens = jnp.zeros((1, module.context_length), jnp.int32)
    return jax.eval_shape(module.init, jax.random.key(0), pixels, tokens)["params"]


def answers(module, params, golden):
    image, text, _ = module.apply({"params": params}, golden["pixels"], golden["tokens"])
    return {"image": image, "pooled": text.pooled, "sequence": text.sequence}


@pytest.mark.parametrize("name", NAMES)
def test_towers_answer_as_their_origin(name):
    golden, config, arrays = load(name)
    module, params_of = network(name, config, arrays)
    found = answers(module, params_of(arrays), golden)
    for what in found.keys() & set(golden.files):
        difference = np.max(np.abs(found[what] - golden[what]))
        assert difference <= TOLERANCE * np.max(np.abs(golden[what])), what


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_counts(name):
    """Another draw of any one tensor moves an answer by ten times the tolerance, or is held to move nothing."""
    golden, config, arrays = load(name)
    module, params_of = network(name, config, arrays)
    run = jax.jit(lambda params: answers(module, params, golden))
    before = run(params_of(arrays))
    for tensor, array in arrays.items():
        changed = {**arrays, tensor: np.asarray(array + drawn(f"{tensor} changed", array.shape), np.float32)}
        after = run(params_of(changed))
        moved = max(float(np.max(np.abs(after[key] - before[key])) / np.max(np.abs(before[key]))) for key in before)
        if tensor.endswith(MOVES_NOTHING):
            assert moved < TOLERANCE, tensor
        else:
            assert moved >= 10 * TOLERANCE, tensor


@pytest.mark.parametrize(
    ("keys", "head_width", "text_heads", "count"),
    [
        ("openai-clip-vit-l-14", 64, None, 427_616_513),
        ("open-clip-vit-h-14", 80, 16, 986_109_441),
        ("open-clip-vit-bigg-14", 104, 20, 2_539_567_105),
    ],
)
def test_every_published_tensor_has_its_place(keys, head_width, text_heads, count):
    tensors = published(keys)
    fields = openai_fields(tensors, image_head_width=head_width, text_heads=text_heads, activation="gelu")
    expected = expected_parameters(CLIP(**fields))
    check(tensors, openai_rules(fields), expected, what=keys)
    assert parameters.count(expected) == count
