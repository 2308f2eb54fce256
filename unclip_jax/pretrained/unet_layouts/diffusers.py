"""Layout of the U-Net in diffusers (UNet2DModel and UNet2DConditionModel).

The following blocks are supported. All of them contain residual blocks:

    ResnetDownsampleBlock2D, ResnetUpsampleBlock2D          resample with a residual block
    SimpleCrossAttnDownBlock2D, SimpleCrossAttnUpBlock2D    the same, with attention to pixels and context
    AttnDownBlock2D, AttnUpBlock2D                          attention to pixels, resample as configured
    DownBlock2D, UpBlock2D                                  resample with a convolution
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import heads_out, norm, separate_heads
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_rules import Names, channel_mult, complete, unet_rules

# Whether a block has attention, and how it resamples. If None, downsample_type or upsample_type determines it.
BLOCKS = {
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "ResnetUpsampleBlock2D": (False, "resnet"),
    "SimpleCrossAttnDownBlock2D": (True, "resnet"),
    "SimpleCrossAttnUpBlock2D": (True, "resnet"),
    "AttnDownBlock2D": (True, None),
    "AttnUpBlock2D": (True, None),
    "DownBlock2D": (False, "conv"),
    "UpBlock2D": (False, "conv"),
}
MIDDLES = ("UNetMidBlock2D", "UNetMidBlock2DSimpleCrossAttn")
REQUIRED = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "cross_attention_norm": None,
    "encoder_hid_dim_type": None,
    "addition_embed_type": None,
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "class_embeddings_concat": False,
}
# The first value is the default.
CHOICES = {"class_embed_type": (None, "identity"), "resnet_time_scale_shift": ("default", "scale_shift")}
RESIDUAL = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "time": "time_emb_proj",
    "norm_2": "norm2",
    "conv_2": "conv2",
    "skip": "conv_shortcut",
}
OUTSIDE = {
    "conv_in": "conv_in",
    "norm_out": "conv_norm_out",
    "conv_out": "conv_out",
    "time_embedding/linear_1": "time_embedding.linear_1",
    "time_embedding/linear_2": "time_embedding.linear_2",
    "label_embedding": "class_embedding",
}


def check_config(config: Mapping[str, Any], required: Mapping[str, Any]) -> None:
    """Checks settings for which only one value is supported.

    Args:
      config: Content of a config.json. A missing key has diffusers' default, which is the supported value.
      required: The supported values.

    Raises:
      ValueError: If a setting has another value.
    """
    for key, value in required.items():
        if config.get(key, value) != value:
            name = config.get("_class_name", "the network")
            raise ValueError(f"{key} of {name} must be {value!r}, got {config[key]!r}.")


def diffusers_unet_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `models.unet.UNet`.

    Args:
      config: Content of the config.json of a UNet2DModel or UNet2DConditionModel. attention_head_dim is the width of a
        head; null means a single head. If class_embed_type is "identity", diffusers' `class_labels` correspond to
        `embedding` of `UNet`.

    Raises:
      ValueError: If `UNet` cannot represent the network.
      KeyError: If a size is missing.
    """
    check_config(config, REQUIRED)
    _check_choices(config)
    _check_middle_norm(config)
    attentive, head_channels = _attentive_levels(config), config.get("attention_head_dim", 8)
    widths, image_size = list(config["block_out_channels"]), config["sample_size"]
    return {
        "image_size": image_size,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "channels": widths[0],
        "channel_mult": channel_mult(widths, widths[0]),
        "res_blocks": config["layers_per_block"],
        "attention_resolutions": tuple(image_size >> level for level in attentive),
        "head_channels": head_channels or widths[0],
        "num_heads": None if head_channels else 1,
        "groups": config.get("norm_num_groups", 32),
        "scale_shift": config.get("resnet_time_scale_shift") == "scale_shift",
        "resblock_updown": _resblock_updown(config),
        "num_classes": config.get("num_class_embeds") if config.get("class_embed_type") is None else None,
        "context_width": _context_width(config),
    }


def diffusers_unet_rules(fields: Mapping[str, Any], *, source: str = "", target: str = "") -> list[Rule]:
    """Returns the rules of a U-Net.

    Args:
      fields: Fields of `UNet`, or of a network that contains one.
      source: Prefix of the published names.
      target: Prefix of the parameters.
    """
    fields = complete(fields)
    return unet_rules(fields, Names(_blocks(fields), RESIDUAL, OUTSIDE, _attention), source, target)


def _attentive_levels(config: Mapping[str, Any]) -> list[int]:
    """Returns the levels with attention, which must be the same for the down path and up path."""
    down, up = list(config["down_block_types"]), list(config["up_block_types"])[::-1]
    middle = config.get("mid_block_type", MIDDLES[0])
    unknown = sorted({*down, *up} - BLOCKS.keys()) + [middle] * (middle not in MIDDLES)
    if unknown:
        known = ", ".join((*BLOCKS, *MIDDLES))
        raise ValueError(f"Unknown blocks {', '.join(map(str, unknown))}. Available: {known}.")
    attentive = [level for level, block in enumerate(down) if BLOCKS[block][0]]
    in_middle = middle == MIDDLES[1] or config.get("add_attention", True)
    if attentive != [level for level, block in enumerate(up) if BLOCKS[block][0]] or in_middle != bool(attentive):
        raise ValueError(
            f"The up path and the bottleneck must have attention where the down path has it (levels {attentive}), got "
            f"{up[::-1]} and {middle}."
        )
    return attentive


def _resblock_updown(config: Mapping[str, Any]) -> bool:
    """Returns whether residual blocks resample, which must be the same for all levels."""
    resampling = {
        BLOCKS[block][1] or config.get(f"{way}sample_type", "conv")
        for way in ("down", "up")
        for block in config[f"{way}_block_types"][:-1]
    }
    if len(resampling) > 1:
        raise ValueError(f"All levels must resample in the same way, got {', '.join(sorted(resampling))}.")
    return resampling != {"conv"}


def _check_choices(config: Mapping[str, Any]) -> None:
    """Checks settings with several supported values, and settings that must not differ between levels."""
    for key, known in CHOICES.items():
        if config.get(key, known[0]) not in known:
            raise ValueError(f"{key} must be one of {', '.join(map(repr, known))}, got {config[key]!r}.")
    for key, kind in (("sample_size", int), ("layers_per_block", int), ("attention_head_dim", int | None)):
        if key in config and not isinstance(config[key], kind):
            raise ValueError(f"{key} must be a single number, got {config[key]!r}.")


def _check_middle_norm(config: Mapping[str, Any]) -> None:
    """Checks that the attention of the bottleneck has a norm with the same number of groups as the others.

    UNet2DModel creates this norm only if attn_norm_num_groups is set or the time embedding is added.
    """
    if config.get("mid_block_type") == MIDDLES[1] or not config.get("add_attention", True):
        return
    groups, attention_groups = config.get("norm_num_groups", 32), config.get("attn_norm_num_groups")
    is_added = config.get("resnet_time_scale_shift", "default") == "default"
    if (attention_groups or (groups if is_added else None)) != groups:
        raise ValueError(f"attn_norm_num_groups must equal norm_num_groups={groups}, got {attention_groups}.")


def _context_width(config: Mapping[str, Any]) -> int | None:
    return config["cross_attention_dim"] if config.get("mid_block_type") == MIDDLES[1] else None


def _blocks(fields: Mapping[str, Any]) -> dict[str, str]:
    """Returns the published names of all possible blocks by their names in this package."""
    levels, conv = len(fields["channel_mult"]), "" if fields["resblock_updown"] else ".conv"
    names = {
        "middle_block_0": "mid_block.resnets.0",
        "middle_attention": "mid_block.attentions.0",
        "middle_block_1": "mid_block.resnets.1",
    }
    for level in range(levels):
        for way, block in (("down", level), ("up", levels - 1 - level)):
            names[f"{way}_{level}_{way}sample"] = f"{way}_blocks.{block}.{way}samplers.0{conv}"
            for r in range(fields["res_blocks"] + 1):
                names[f"{way}_{level}_block_{r}"] = f"{way}_blocks.{block}.resnets.{r}"
                names[f"{way}_{level}_attention_{r}"] = f"{way}_blocks.{block}.attentions.{r}"
    return names


def _attention(target: str, source: str, heads: int, has_context: bool) -> list[Rule]:
    context = separate_heads(f"{target}/context", (f"{source}.add_k_proj", f"{source}.add_v_proj"), heads)
    return [
        *norm(f"{target}/norm", f"{source}.group_norm"),
        *separate_heads(f"{target}/qkv", tuple(f"{source}.to_{part}" for part in "qkv"), heads),
        *(context if has_context else ()),
        *heads_out(f"{target}/out", f"{source}.to_out.0", heads),
    ]
