"""Every tensor of the published checkpoints has its place in our networks, and no other tensor is there.

tests/golden/keys/ lists names and shapes of the published state dicts. Ours are brought into their layout: layers
unstacked, channels first, heads merged.
"""

import collections
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax import parameters
from unclip_jax.models.clip import CLIP, TextFeatures
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.unet import UNet
from unclip_jax.models.upsampler import Upsampler

KEYS = pathlib.Path(__file__).parents[1] / "golden" / "keys"


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


STEPS = jax.ShapeDtypeStruct((1,), jnp.int32)
TEXT = TextFeatures(floats(1, 768), floats(1, 77, 768), jax.ShapeDtypeStruct((1, 77), jnp.bool_))
GUIDED_DIFFUSION = {"channels": 192, "out_channels": 6, "num_classes": 1000, "attention_resolutions": (32, 16, 8)}
NETWORKS = {
    "openai-clip-vit-l-14": (
        CLIP(
            embed_dim=768, image_size=224, patch_size=14, image_width=1024, image_layers=24, image_heads=16,
            vocab_size=49408, context_length=77, text_width=768, text_layers=12, text_heads=12,
        ),
        (floats(1, 224, 224, 3), jax.ShapeDtypeStruct((1, 77), jnp.int32)),
        427_616_513,
    ),
    "karlo-prior": (
        DiffusionPrior(embed_dim=768, text_width=768, context_length=77, width=2048, layers=20, heads=32),
        (floats(1, 768), STEPS, TEXT),
        1_022_028_544,
    ),
    "karlo-decoder": (
        Decoder(
            image_size=64, channels=320, channel_mult=(1, 2, 3, 4), res_blocks=3, attention_resolutions=(32, 16, 8),
            head_channels=64, embed_dim=768, text_width=768, context_width=1536,
        ),
        (floats(1, 64, 64, 3), STEPS, floats(1, 768), TEXT),
        893_318_086,
    ),
    "karlo-upsampler": (
        Upsampler(image_size=256, channels=320, channel_mult=(1, 2, 3, 4), res_blocks=3),
        (floats(1, 256, 256, 3), STEPS, floats(1, 256, 256, 3)),
        691_579_523,
    ),
    "guided-diffusion-64": (
        UNet(image_size=64, channel_mult=(1, 2, 3, 4), res_blocks=3, **GUIDED_DIFFUSION),
        (floats(1, 64, 64, 3), STEPS),
        295_904_454,
    ),
    "guided-diffusion-64-256-upsampler": (
        UNet(
            image_size=256, in_channels=6, channel_mult=(1, 1, 2, 2, 4, 4), res_blocks=2, num_heads=4,
            **GUIDED_DIFFUSION,
        ),
        (floats(1, 256, 256, 6), STEPS),
        311_795_910,
    ),
}  # fmt: skip


@functools.cache
def shapes(name):
    """Ours: name -> shape."""
    module, args, _ = NETWORKS[name]
    labels = {"labels": jnp.zeros(1, jnp.int32)} if getattr(module, "num_classes", None) else {}
    tree = jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a, **labels)["params"], *args)
    return {key: leaf.shape for key, leaf in parameters.flatten(tree).items()}


def published(name):
    """Theirs: name -> shape."""
    lines = (KEYS / f"{name}.txt").read_text().splitlines()[1:]
    return {key: tuple(map(int, filter(None, shape.strip("[]").split(", ")))) for key, shape in
            (line.split("\t") for line in lines)}  # fmt: skip


def in_their_layout(name, key, shape):
    """The shapes of the published tensors that one of ours stands for."""
    if "blocks/" in key:
        return shape[0] * [_unstacked(key, shape[1:])]
    if name == "karlo-prior" and key in ("positional_embedding", "query"):
        return [(1, shape[0], shape[1]) if key == "positional_embedding" else (1, 1, *shape)]
    if name == "openai-clip-vit-l-14" and key.endswith("projection/kernel"):
        return [shape]
    return [_unstacked(key, shape)]


def _unstacked(key, shape):
    *path, leaf = key.split("/")
    # Where it belongs to a U-Net, a projection of pixels is a convolution of width 1.
    ones = (1,) if "attention_" in key or "middle_attention" in key else ()
    if path and path[-1] in ("qkv", "context"):
        outputs = int(np.prod(shape[-3:]))
        return (outputs,) if leaf == "bias" else (outputs, shape[0], *ones)
    if leaf != "kernel":
        return shape
    if path[-1] == "out":
        return (shape[-1], shape[0] * shape[1], *ones)
    if path[-1] == "image_to_tokens":
        return (shape[1] * shape[2], shape[0])
    if path[-1] == "skip":
        return (*shape[::-1], 1, 1)
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_count_is_the_published_one(name):
    wanted = NETWORKS[name][2]
    assert sum(int(np.prod(shape)) for shape in shapes(name).values()) == wanted
    assert sum(int(np.prod(shape)) for shape in published(name).values()) == wanted


@pytest.mark.parametrize("name", NETWORKS)
def test_every_shape_is_a_published_one(name):
    ours = collections.Counter()
    for key, shape in shapes(name).items():
        # image_to_tokens has its bias in two axes as well.
        flat = (int(np.prod(shape)),) if key == "image_to_tokens/bias" else None
        ours.update([flat] if flat else in_their_layout(name, key, shape))
    assert ours == collections.Counter(published(name).values())


def published_numbering(levels, res_blocks, attentive):
    """Our names of blocks -> theirs, by the rule that the U-Net's documentation states."""
    names = {"conv_in": "input_blocks.0.0", "conv_out": "out.2"}
    for level in range(levels):
        first = 1 + level * (res_blocks + 1)
        for r in range(res_blocks):
            names[f"down_{level}_block_{r}"] = f"input_blocks.{first + r}.0"
            names[f"down_{level}_attention_{r}"] = f"input_blocks.{first + r}.1"
        names[f"down_{level}_downsample"] = f"input_blocks.{(level + 1) * (res_blocks + 1)}.0"
        first = (levels - 1 - level) * (res_blocks + 1)
        for r in range(res_blocks + 1):
            names[f"up_{level}_block_{r}"] = f"output_blocks.{first + r}.0"
            names[f"up_{level}_attention_{r}"] = f"output_blocks.{first + r}.1"
        names[f"up_{level}_upsample"] = f"output_blocks.{first + res_blocks}.{2 if level in attentive else 1}"
    names.update({"middle_block_0": "middle_block.0", "middle_attention": "middle_block.1"})
    return names | {"middle_block_1": "middle_block.2" if attentive else "middle_block.1"}


PARTS = {
    "conv_1": "in_layers.2", "conv_2": "out_layers.3", "time": "emb_layers.1", "norm_1": "in_layers.0",
    "norm_2": "out_layers.0", "skip": "skip_connection", "norm": "norm", "qkv": "qkv", "context": "encoder_kv",
    "out": "proj_out",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "prefix", "levels", "res_blocks", "attentive"),
    [
        ("karlo-decoder", "model.", 4, 3, (1, 2, 3)),
        ("karlo-upsampler", "model_first_steps.", 4, 3, ()),
        ("guided-diffusion-64", "", 4, 3, (1, 2, 3)),
        ("guided-diffusion-64-256-upsampler", "", 6, 2, (3, 4, 5)),
    ],
)
def test_every_block_stands_where_the_published_numbering_has_it(name, prefix, levels, res_blocks, attentive):
    names = published_numbering(levels, res_blocks, attentive)
    theirs = published(name)
    seen = set()
    for key, shape in shapes(name).items():
        block, *rest = key.removeprefix("unet/").split("/")
        if block not in names:
            continue
        part = "." + PARTS[rest[0]] if len(rest) == 2 else ""
        kind = "bias" if rest[-1] == "bias" else "weight"
        their_key = f"{prefix}{names[block]}{part}.{kind}"
        assert in_their_layout(name, key, shape) == [theirs[their_key]], key
        seen.add(their_key)
    blocks = {key for key in theirs if "_block" in key or "out.2" in key}
    assert seen == blocks
