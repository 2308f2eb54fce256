"""Comparison of parameter names and shapes with published checkpoints.

tests/golden/keys/ lists the names and shapes of the published state dicts. Parameters of this package are converted to
their layout for the comparison: layers unstacked, channels first, heads merged.
"""

import collections
import functools
import pathlib

import numpy as np
import pytest

from unclip_jax import parameters
from unclip_jax.kinds import KINDS
from unclip_jax.models.network import build, parameter_shapes
from unclip_jax.models.presets import PRESETS, preset

KEYS = pathlib.Path(__file__).parents[1] / "golden" / "keys"


# Published file -> preset and number of parameters.
NETWORKS = {
    "openai-clip-vit-l-14": ("clip_vit_l_14", 427_616_513),
    "open-clip-vit-h-14": ("clip_vit_h_14", 986_109_441),
    "open-clip-vit-bigg-14": ("clip_vit_bigg_14", 2_539_567_105),
    "karlo-prior": ("karlo_prior", 1_022_028_544),
    "karlo-decoder": ("karlo_decoder", 893_318_086),
    "karlo-upsampler": ("karlo_upsampler", 691_579_523),
    "glide-base": ("glide_base", 385_030_726),
    "glide-upsample": ("glide_upsample", 398_361_286),
    "glide-base-inpaint": ("glide_base_inpaint", 385_037_638),
    "glide-upsample-inpaint": ("glide_upsample_inpaint", 398_368_198),
    "guided-diffusion-64": ("guided_diffusion_64", 295_904_454),
    "guided-diffusion-256-uncond": ("guided_diffusion_256_uncond", 552_814_086),
    "guided-diffusion-64-256-upsampler": ("guided_diffusion_64_256_upsampler", 311_795_910),
    "guided-diffusion-128-512-upsampler": ("guided_diffusion_128_512_upsampler", 308_835_270),
    "guided-diffusion-64-classifier": ("guided_diffusion_64_classifier", 65_438_568),
    "guided-diffusion-128-classifier": ("guided_diffusion_128_classifier", 42_568_040),
    "guided-diffusion-256-classifier": ("guided_diffusion_256_classifier", 54_096_360),
    "guided-diffusion-512-classifier": ("guided_diffusion_512_classifier", 54_448_360),
}
# Presets without a single list of keys: the counts are those of OpenAI's files, the label embeddings of 1000 classes
# are added, and GLIDE's noised CLIP has one file per encoder.
COUNTS = {
    "clip_vit_b_32": 151_277_313,
    "clip_vit_b_16": 149_620_737,
    "guided_diffusion_256": 552_814_086 + 1000 * 1024,
    "lsun_256": 552_814_086,
    "glide_noised_clip": 86_443_776 + 71_679_488,
}
# Rounded numbers of the papers (arXiv 2105.05233, appendix; arXiv 2204.06125, Table 3) in millions, and tolerances.
MILLIONS = {
    "guided_diffusion_128": (422, 0.002),
    "guided_diffusion_512": (559, 0.002),
    "unclip_decoder": (3500, 0.05),
    "unclip_prior": (1000, 0.25),
    "unclip_upsampler_64_to_256": (700, 0.05),
    "unclip_upsampler_256_to_1024": (300, 0.12),
}


@functools.cache
def shapes_of(name):
    """Returns the parameter shapes of a preset by name."""
    kind, fields = preset(name)
    tree = parameter_shapes(build(KINDS.choose(kind).network, fields))
    return {key: leaf.shape for key, leaf in parameters.flatten(tree).items()}


def count(name):
    return sum(int(np.prod(shape)) for shape in shapes_of(name).values())


def shapes(name):
    """Returns the parameter shapes of the preset for a published file."""
    return shapes_of(NETWORKS[name][0])


def published(name):
    """Returns the tensor shapes of a published file by name."""
    lines = (KEYS / f"{name}.txt").read_text().splitlines()[1:]
    return {key: tuple(map(int, filter(None, shape.strip("[]").split(", ")))) for key, shape in
            (line.split("\t") for line in lines)}  # fmt: skip


def published_layout(name, key, shape):
    """Returns the shapes of the published tensors that correspond to one parameter."""
    if "blocks/" in key:
        return shape[0] * [_unstacked(key, shape[1:])]
    if name == "karlo-prior" and key in ("positional_embedding", "query"):
        return [(1, shape[0], shape[1]) if key == "positional_embedding" else (1, 1, *shape)]
    if "clip" in name and key.endswith("projection/kernel"):
        return [shape]
    if key == "pool/positional_embedding":
        return [shape[::-1]]
    return [_unstacked(key, shape)]


def _unstacked(key, shape):
    *path, leaf = key.split("/")
    # In U-Nets, projections of pixels are published as convolutions of width 1.
    ones = (1,) if "attention_" in key or "middle_attention" in key or "pool/" in key else ()
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
def test_parameter_count_matches_the_published_file(name):
    preset_name, expected = NETWORKS[name]
    assert count(preset_name) == expected
    assert sum(int(np.prod(shape)) for shape in published(name).values()) == expected


def test_parameter_count_of_every_preset_matches():
    assert {*COUNTS, *MILLIONS, *(name for name, _ in NETWORKS.values())} == set(PRESETS)
    assert {name: count(name) for name in COUNTS} == COUNTS
    for name, (millions, tolerance) in MILLIONS.items():
        assert abs(count(name) / 1e6 / millions - 1) < tolerance, (name, count(name))


def test_preset_rejects_unknown_names_and_returns_a_copy():
    with pytest.raises(ValueError, match="Unknown preset 'vit'. Available: clip_vit_b_32, clip_vit_b_16"):
        preset("vit")
    preset("lsun_256")[1]["channels"] = 1
    assert preset("lsun_256")[1]["channels"] == 256


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_shapes_match_the_published_file(name):
    ours = collections.Counter()
    for key, shape in shapes(name).items():
        # The bias of image_to_tokens also has two axes.
        flat = (int(np.prod(shape)),) if key == "image_to_tokens/bias" else None
        ours.update([flat] if flat else published_layout(name, key, shape))
    assert ours == collections.Counter(published(name).values())


def published_numbering(levels, res_blocks, attentive):
    """Returns the published names of the blocks, as documented in `models.unet`."""
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
        ("glide-base", "", 4, 3, (1, 2, 3)),
        ("guided-diffusion-64", "", 4, 3, (1, 2, 3)),
        ("guided-diffusion-256-uncond", "", 6, 2, (3, 4, 5)),
        ("guided-diffusion-64-256-upsampler", "", 6, 2, (3, 4, 5)),
        ("guided-diffusion-128-512-upsampler", "", 6, 2, (4, 5)),
    ],
)
def test_unet_block_names_match_the_published_numbering(name, prefix, levels, res_blocks, attentive):
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
        assert published_layout(name, key, shape) == [theirs[their_key]], key
        seen.add(their_key)
    blocks = {key for key in theirs if "_block" in key or "out.2" in key}
    assert seen == blocks
