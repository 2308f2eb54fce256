"""Example inputs of all networks."""

import jax
import numpy as np
import pytest

from tests.quick import jit
from tests.randomised import initialised
from unclip_jax import parameters
from unclip_jax.models.clip import CLIP
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.glide import Glide
from unclip_jax.models.noised_classifier import NoisedClassifier
from unclip_jax.models.noised_clip import NoisedCLIP
from unclip_jax.models.unet import UNet
from unclip_jax.models.upsampler import Upsampler

TEXT_TOWER = {
    "embed_dim": 6, "vocab_size": 11, "context_length": 5, "text_width": 12, "text_layers": 1, "text_heads": 3,
}  # fmt: skip
IMAGE_TOWER = {"image_size": 8, "patch_size": 4, "image_width": 16, "image_layers": 1, "image_heads": 2}
U_NET = {"image_size": 4, "channels": 8, "channel_mult": (1, 2), "res_blocks": 1, "groups": 4}
ATTENTION = U_NET | {"attention_resolutions": (2,), "head_channels": 8}
GLIDE = ATTENTION | TEXT_TOWER | {"embed_dim": None}

X, T, TOKENS = ("f", 1, 4, 4, 3), ("i", 1), ("i", 1, 5)
# Networks and their inputs: a letter for the type (float, int, bool), followed by the shape.
NETWORKS = {
    "clip": (CLIP(**IMAGE_TOWER, **TEXT_TOWER), {"pixels": ("f", 1, 8, 8, 3), "tokens": TOKENS}),
    "clip-text": (CLIP(**dict.fromkeys(IMAGE_TOWER), **TEXT_TOWER), {"tokens": TOKENS}),
    "noised-clip": (NoisedCLIP(**IMAGE_TOWER, **TEXT_TOWER), {"x_t": ("f", 1, 8, 8, 3), "t": T, "tokens": TOKENS}),
    "prior": (
        DiffusionPrior(embed_dim=6, text_width=12, context_length=5, width=8, layers=1, heads=2),
        {"z_t": ("f", 1, 6), "t": T, "text.pooled": ("f", 1, 6), "text.sequence": ("f", 1, 5, 12),
         "text.mask": ("b", 1, 5)},
    ),
    "decoder": (
        Decoder(**ATTENTION, embed_dim=6, text_width=12, context_width=8),
        {"x_t": X, "t": T, "image_embedding": ("f", 1, 6), "text.pooled": ("f", 1, 6),
         "text.sequence": ("f", 1, 8, 12), "text.mask": ("b", 1, 8)},
    ),
    "upsampler": (Upsampler(**U_NET), {"x_t": X, "t": T, "low_res": X}),
    "unet": (UNet(**U_NET), {"x": X, "t": T}),
    "unet-classes": (UNet(**U_NET, num_classes=3), {"x": X, "t": T, "labels": ("i", 1)}),
    "unet-context": (UNet(**ATTENTION, context_width=7), {"x": X, "t": T, "context": ("f", 1, 8, 7)}),
    "unet-low-res": (UNet(**U_NET, in_channels=6), {"x": ("f", 1, 4, 4, 6), "t": T}),
    "classifier": (NoisedClassifier(**ATTENTION, num_classes=3), {"x": X, "t": T}),
    "glide": (Glide(**GLIDE), {"x_t": X, "t": T, "tokens": TOKENS, "mask": ("b", 1, 5)}),
    "glide-embedding": (
        Glide(**GLIDE | {"embed_dim": 6}),
        {"x_t": X, "t": T, "tokens": TOKENS, "mask": ("b", 1, 5), "image_embedding": ("f", 1, 6)},
    ),
    "glide-inpaint": (
        Glide(**GLIDE, in_channels=7),
        {"x_t": X, "t": T, "tokens": TOKENS, "mask": ("b", 1, 5), "extra_channels": ("f", 1, 4, 4, 4)},
    ),
}  # fmt: skip
# Shapes of parameters that are specific to a case.
PARAMETERS = {
    "clip": {"logit_scale": (), "image/projection/kernel": (16, 6), "text/projection/kernel": (12, 6)},
    "clip-text": {"text/projection/kernel": (12, 6), "text/token_embedding/embedding": (11, 12)},
    "noised-clip": {"image/step_embedding/embedding": (1000, 16)},
    "prior": {"query": (8,), "positional_embedding": (5 + 4, 8)},
    "decoder": {"null_image": (6,), "unet/middle_attention/context/kernel": (8, 2, 2, 8)},
    "upsampler": {"unet/conv_in/kernel": (3, 3, 6, 8)},
    "unet-classes": {"label_embedding/embedding": (3, 32)},
    "unet-context": {"middle_attention/context/kernel": (7, 2, 2, 8)},
    "unet-low-res": {"conv_in/kernel": (3, 3, 6, 8)},
    "classifier": {"pool/positional_embedding": (2 * 2 + 1, 16), "pool/out/kernel": (2, 8, 3)},
    "glide": {"text/padding_embedding": (5, 12), "unet/conv_in/kernel": (3, 3, 3, 8)},
    "glide-embedding": {"image_to_tokens/kernel": (6, 12, 4), "image_to_time/kernel": (6, 32), "null_image": (6,)},
    "glide-inpaint": {"unet/conv_in/kernel": (3, 3, 7, 8)},
}


def described(inputs):
    """Returns type letter and shape of every array by path."""
    leaves = jax.tree_util.tree_leaves_with_path(inputs)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {name: (leaf.dtype.kind, *leaf.shape) for name, (_, leaf) in zip(names, leaves, strict=True)}


@pytest.mark.parametrize("case", NETWORKS)
def test_example_inputs_have_the_expected_types_and_shapes(case):
    module, expected = NETWORKS[case]
    assert described(module.example_inputs()) == expected


@pytest.mark.parametrize("case", NETWORKS)
def test_example_inputs_initialize_and_apply_by_keyword(case):
    module, _ = NETWORKS[case]
    inputs = module.example_inputs()
    params = initialised(module, **inputs)
    shapes = {name: np.shape(value) for name, value in parameters.flatten(params).items()}
    assert PARAMETERS.get(case, {}).items() <= shapes.items()
    assert jax.tree.leaves(jax.eval_shape(lambda p: module.apply({"params": p}, **inputs), params))


@pytest.mark.parametrize("case", ["decoder", "upsampler", "unet-context", "glide-inpaint"])
def test_example_inputs_of_non_square_images_have_height_first(case):
    square, expected = NETWORKS[case]
    module = square.clone(image_size=(16, 24))
    if hasattr(square, "attention_resolutions"):
        module = module.clone(attention_resolutions=(8,))
    inputs = module.example_inputs()
    images = {name: ("f", 1, 16, 24, shape[-1]) for name, shape in expected.items() if len(shape) == 5}
    assert images and described(inputs) == expected | images
    params = initialised(module, **inputs)
    output = jit(lambda p: module.apply({"params": p}, **inputs))(params)
    assert output.shape == (1, 16, 24, module.out_channels)


def test_clip_without_an_image_encoder_has_only_text_parameters_and_features():
    module, _ = NETWORKS["clip-text"]
    inputs = module.example_inputs()
    params = initialised(module, **inputs)
    assert params.keys() == {"text"}
    image, text, scale = jax.eval_shape(lambda p: module.apply({"params": p}, **inputs), params)
    assert image is None and scale is None and text.pooled.shape == (1, 6)


def test_clip_rejects_pixels_that_do_not_match_its_encoders():
    both, text_only = NETWORKS["clip"][0], NETWORKS["clip-text"][0]
    with pytest.raises(ValueError, match="pixels must be a batch of images, got None"):
        initialised(both, **both.example_inputs() | {"pixels": None})
    with pytest.raises(ValueError, match="This CLIP has no image encoder"):
        initialised(text_only, **text_only.example_inputs() | {"pixels": both.example_inputs()["pixels"]})
