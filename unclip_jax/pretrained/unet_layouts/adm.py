"""Layout of the U-Net in guided-diffusion, which GLIDE and Karlo also use.

    input_blocks.{entry}.{part}, middle_block.{part}, output_blocks.{entry}.{part}

`models.unet` describes which entry corresponds to which block. Part 0 of an entry is the residual block. It is followed
by attention and the block that resamples, if the entry has them.

The rows of a qkv projection are ordered [head][q, k, v][width] (Improved DDPM, GLIDE, Karlo, most of guided-diffusion)
or [q, k, v][head][width] ("new attention order"). The rows of a context projection are always ordered
[head][k, v][width].
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.layer_rules import count_numbers, norm
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_rules import Names, channel_mult, complete, encoder_rules, unet_rules

GROUPS = 32  # of every GroupNorm
RESIDUAL = {
    "norm_1": "in_layers.0",
    "conv_1": "in_layers.2",
    "time": "emb_layers.1",
    "norm_2": "out_layers.0",
    "conv_2": "out_layers.3",
    "skip": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding/linear_1": "time_embed.0",
    "time_embedding/linear_2": "time_embed.2",
    "label_embedding": "label_emb",
}


def adm_fields(
    tensors: Mapping[str, LazyTensor],
    *,
    image_size: int,
    head_channels: int = 64,
    num_heads: int | None = None,
    source: str = "",
) -> dict[str, Any]:
    """Returns the fields of `models.unet.UNet`, derived from tensor shapes.

    The shapes do not determine the image size and the number and width of heads, which are passed as in `UNet`.

    Args:
      tensors: The tensors of the U-Net and possibly others.
      image_size: Size of the images.
      head_channels: Width of an attention head. Unused if `num_heads` is given.
      num_heads: Number of attention heads. If None, it follows from `head_channels`.
      source: Prefix of every tensor name of the U-Net, such as "model.".

    Raises:
      KeyError: If a tensor that every U-Net has is missing.
    """
    context = tensors.get(f"{source}middle_block.1.encoder_kv.weight")
    labels = tensors.get(f"{source}label_emb.weight")
    return {
        **adm_encoder_fields(
            tensors,
            _entries_per_level(tensors, source),
            image_size=image_size,
            head_channels=head_channels,
            num_heads=num_heads,
            source=source,
        ),
        "out_channels": tensors[f"{source}out.2.weight"].shape[0],
        "num_classes": labels and labels.shape[0],
        "context_width": context and context.shape[1],
    }


def adm_encoder_fields(
    tensors: Mapping[str, LazyTensor],
    per_level: int,
    *,
    image_size: int,
    head_channels: int = 64,
    num_heads: int | None = None,
    source: str = "",
) -> dict[str, Any]:
    """Returns the fields of `models.unet_encoder.UNetEncoder`, derived from tensor shapes.

    Args:
      tensors: The tensors of the network and possibly others.
      per_level: Number of entries of input_blocks per level, which is res_blocks + 1.
      image_size: Size of the images.
      head_channels: Width of an attention head. Unused if `num_heads` is given.
      num_heads: Number of attention heads. If None, it follows from `head_channels`.
      source: Prefix of every tensor name of the network, such as "model.".
    """
    conv_in = tensors[f"{source}input_blocks.0.0.weight"]
    levels = range(count_numbers(tensors, f"{source}input_blocks.") // per_level)
    firsts = [f"{source}input_blocks.{1 + level * per_level}" for level in levels]
    widths = [tensors[f"{first}.0.out_layers.3.weight"].shape[0] for first in firsts]
    time_rows, channels = tensors[f"{firsts[0]}.0.emb_layers.1.weight"].shape[0], _channels(tensors, source)
    attentive = [level for level in levels if f"{firsts[level]}.1.qkv.weight" in tensors]
    return {
        "image_size": image_size,
        "in_channels": conv_in.shape[1],
        "channels": channels,
        "channel_mult": channel_mult(widths, channels),
        "res_blocks": per_level - 1,
        "attention_resolutions": tuple(image_size >> level for level in attentive),
        "head_channels": head_channels,
        "num_heads": num_heads,
        "groups": GROUPS,
        "scale_shift": time_rows == 2 * widths[0],
        "resblock_updown": f"{source}input_blocks.{per_level}.0.op.weight" not in tensors,
    }


def adm_rules(
    fields: Mapping[str, Any], *, source: str = "", target: str = "", new_attention_order: bool = False
) -> list[Rule]:
    """Returns the rules of a U-Net.

    Args:
      fields: Fields of `UNet`, or of a network that contains one.
      source: Prefix of the published names.
      target: Prefix of the parameters.
      new_attention_order: Whether the rows of a qkv projection are ordered [q, k, v][head][width].
    """
    fields = complete(fields)
    return unet_rules(fields, _names(fields, new_attention_order), source, target)


def adm_encoder_rules(fields: Mapping[str, Any]) -> list[Rule]:
    """Returns the rules of a `UNetEncoder` with these fields."""
    fields = complete(fields)
    return encoder_rules(fields, _names(fields, new_attention_order=False), "", "")


def _names(fields: Mapping[str, Any], new_attention_order: bool) -> Names:
    def attention(target: str, source: str, heads: int, has_context: bool) -> list[Rule]:
        return _attention(target, source, heads, has_context, new_attention_order)

    return Names(_blocks(fields), RESIDUAL, OUTSIDE, attention)


def _channels(tensors: Mapping[str, LazyTensor], source: str) -> int:
    return tensors[f"{source}time_embed.0.weight"].shape[1]


def _entries_per_level(tensors: Mapping[str, LazyTensor], source: str) -> int:
    """Returns the number of entries per level, which is res_blocks + 1.

    The first entry of the up path that upsamples is the last entry of its level.
    """
    entries = count_numbers(tensors, f"{source}output_blocks.")
    if not entries:
        raise KeyError(f"{source}output_blocks.0.0.in_layers.0.weight")
    for entry in range(entries):
        parts = [f"{source}output_blocks.{entry}.{part}" for part in (1, 2)]
        if any(f"{part}.{name}" in tensors for part in parts for name in ("in_layers.0.weight", "conv.weight")):
            return entry + 1
    return entries  # there is only one level


def _blocks(fields: Mapping[str, Any]) -> dict[str, str]:
    """Returns the published names of all possible blocks by their names in this package."""
    levels, per_level = len(fields["channel_mult"]), fields["res_blocks"] + 1
    op, conv = ("", "") if fields["resblock_updown"] else (".op", ".conv")
    names = {
        "middle_block_0": "middle_block.0",
        "middle_attention": "middle_block.1",
        "middle_block_1": f"middle_block.{2 if fields['attention_resolutions'] else 1}",
    }
    for level in range(levels):
        for r in range(per_level):
            down = f"input_blocks.{1 + level * per_level + r}"
            up = f"output_blocks.{(levels - 1 - level) * per_level + r}"
            names |= {f"down_{level}_block_{r}": f"{down}.0", f"down_{level}_attention_{r}": f"{down}.1"}
            names |= {f"up_{level}_block_{r}": f"{up}.0", f"up_{level}_attention_{r}": f"{up}.1"}
        # After the loop, `down` and `up` are the last entry of the level.
        part = 2 if fields["image_size"] >> level in fields["attention_resolutions"] else 1
        names |= {f"down_{level}_downsample": f"{down}.0{op}", f"up_{level}_upsample": f"{up}.{part}{conv}"}
    return names


def _attention(target: str, source: str, heads: int, has_context: bool, new_order: bool) -> list[Rule]:
    rows = "p n k" if new_order else "n p k"
    projections = joint_projection(f"{target}/qkv", f"{source}.qkv", rows, {"p": 3, "n": heads})
    if has_context:
        projections += joint_projection(f"{target}/context", f"{source}.encoder_kv", "n p k", {"p": 2, "n": heads})
    out = out_projection(f"{target}/out", f"{source}.proj_out", heads)
    return [*norm(f"{target}/norm", f"{source}.norm"), *projections, *out]


def joint_projection(target: str, source: str, rows: str, sizes: Mapping[str, int]) -> list[Rule]:
    """Returns the rules of joint projections of attention, published as one 1x1 convolution.

    Args:
      target: Path of the layer.
      source: Published name of the layer.
      rows: Order of the rows: projections p (such as query, key, value), heads n and channels k, such as "n p k".
      sizes: Sizes of p and n.
    """
    return [
        Rule(f"{target}/kernel", f"{source}.weight", f"({rows}) i 1 -> i p n k", sizes),
        Rule(f"{target}/bias", f"{source}.bias", f"({rows}) -> p n k", sizes),
    ]


def out_projection(target: str, source: str, heads: int) -> list[Rule]:
    """Returns the rules of the output projection of attention, published as a 1x1 convolution.

    Args:
      target: Path of the layer.
      source: Published name of the layer.
      heads: Number of attention heads.
    """
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o (n k) 1 -> n k o", {"n": heads}),
        Rule(f"{target}/bias", f"{source}.bias"),
    ]
