"""The U-Net as diffusers' UNet2DModel and UNet2DConditionModel, of those blocks that are the same as here:

    ResnetDownsampleBlock2D, ResnetUpsampleBlock2D            residual blocks, which resample too
    SimpleCrossAttnDownBlock2D, SimpleCrossAttnUpBlock2D      and attention to pixels and a context
    AttnDownBlock2D, AttnUpBlock2D                            and attention to pixels; they resample as the config says
    DownBlock2D, UpBlock2D                                    residual blocks, and plain convolutions that resample
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.adm_unet import channel_mult
from unclip_jax.pretrained.diffusers_config import check_config
from unclip_jax.pretrained.layer_rules import heads_out, norm, separate_heads
from unclip_jax.pretrained.unet_rules import Names, complete, unet_rules
from unclip_jax.pretrained.weight_mapping import Rule

# Whether a block has attention, and how it resamples; None: as the config says.
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
WANTED = {
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
# The default first.
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


def diffusers_unet_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `models.unet.UNet` for a config.json of UNet2DModel or UNet2DConditionModel.

    attention_head_dim is a head's width; null is one head of the level's width.
    Where class_embed_type is "identity", diffusers' `class_labels` are what UNet calls `embedding`.

    Raises ValueError for a network that UNet cannot be, and says what of it; KeyError for a config without its sizes.
    """
    check_config(config, WANTED)
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
    """The parameters of the U-Net with these fields, of UNet or of a network that holds one.

    source, target: as in `unet_rules`.
    """
    fields = complete(fields)
    return unet_rules(fields, Names(_blocks(fields), RESIDUAL, OUTSIDE, _attention), source, target)


def _attentive_levels(config: Mapping[str, Any]) -> list[int]:
    """The levels with attention. Raises ValueError where the ways down and up or the middle do not go together."""
    down, up = list(config["down_block_types"]), list(config["up_block_types"])[::-1]
    middle = config.get("mid_block_type", MIDDLES[0])
    unknown = sorted({*down, *up} - BLOCKS.keys()) + [middle] * (middle not in MIDDLES)
    if unknown:
        raise ValueError(f"blocks {', '.join(map(str, unknown))} are unknown; known: {', '.join((*BLOCKS, *MIDDLES))}")
    attentive = [level for level, block in enumerate(down) if BLOCKS[block][0]]
    in_middle = middle == MIDDLES[1] or config.get("add_attention", True)
    if attentive != [level for level, block in enumerate(up) if BLOCKS[block][0]] or in_middle != bool(attentive):
        raise ValueError(
            f"the levels with attention are {attentive} on the way down; the way up ({up}) and the middle ({middle}) "
            "must have it where the way down has it"
        )
    return attentive


def _resblock_updown(config: Mapping[str, Any]) -> bool:
    """Raises ValueError where some blocks resample by residual blocks, and others by plain convolutions."""
    resampling = {
        BLOCKS[block][1] or config.get(f"{way}sample_type", "conv")
        for way in ("down", "up")
        for block in config[f"{way}_block_types"][:-1]
    }
    if len(resampling) > 1:
        raise ValueError(f"blocks resample by {', '.join(sorted(resampling))}; the network here does it in one way")
    return resampling != {"conv"}


def _check_choices(config: Mapping[str, Any]) -> None:
    """Raises ValueError, with what is known, for what has more than one known value."""
    for key, known in CHOICES.items():
        if config.get(key, known[0]) not in known:
            raise ValueError(f"{key} {config[key]!r} is unknown; known: {', '.join(map(repr, known))}")
    for key, kind in (("sample_size", int), ("layers_per_block", int), ("attention_head_dim", int | None)):
        if key in config and not isinstance(config[key], kind):
            raise ValueError(f"{key} is {config[key]!r}; one number is wanted, for all levels and both sides")


def _check_middle_norm(config: Mapping[str, Any]) -> None:
    """UNet2DModel's middle has a norm in its attention, and with all groups, only where it is asked for one or time is
    added. Raises ValueError where it has another or none."""
    if config.get("mid_block_type") == MIDDLES[1] or not config.get("add_attention", True):
        return
    groups, asked = config.get("norm_num_groups", 32), config.get("attn_norm_num_groups")
    is_added = config.get("resnet_time_scale_shift", "default") == "default"
    if (asked or (groups if is_added else None)) != groups:
        raise ValueError(f"attn_norm_num_groups {asked} differs from norm_num_groups {groups}")


def _context_width(config: Mapping[str, Any]) -> int | None:
    return config["cross_attention_dim"] if config.get("mid_block_type") == MIDDLES[1] else None


def _blocks(fields: Mapping[str, Any]) -> dict[str, str]:
    """Names here -> names there, of all blocks that there may be."""
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
