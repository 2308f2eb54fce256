"""The rules of the U-Net (`models.unet`) for any publisher: which blocks it has, once, and what each one calls them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from unclip_jax.models.network import default_fields
from unclip_jax.models.unet import UNet
from unclip_jax.pretrained.layer_rules import convolution, dense, norm, pixel_dense
from unclip_jax.pretrained.weight_mapping import Rule


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Args:
      name: here, such as "down_0_block_1".
      block_type: "residual", "attention", or "convolution" for a plain one that halves or doubles pictures.
      projects: whether a residual block changes the channels, so that its skip path is a linear map.
      heads: of an attention block.
    """

    name: str
    block_type: str
    projects: bool = False
    heads: int = 0


@dataclasses.dataclass(frozen=True)
class Names:
    """What a publisher calls them.

    Args:
      blocks: each block, by its name here.
      residual: norm_1, conv_1, time, norm_2, conv_2 and skip of a residual block.
      outside: conv_in, norm_out, conv_out, time_embedding/linear_1, time_embedding/linear_2 and label_embedding.
      attention: (target, source, heads, whether it sees a context) -> its rules.
    """

    blocks: Mapping[str, str]
    residual: Mapping[str, str]
    outside: Mapping[str, str]
    attention: Callable[[str, str, int, bool], list[Rule]]


def complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `models.unet.UNet`, or of a network that holds one: with the U-Net's defaults for those left out."""
    return default_fields(UNet) | dict(fields)


def unet_rules(fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
    """The rules of every parameter.

    Args:
      fields: complete.
      source: what stands before every published name, such as "model.".
      target: what stands before every parameter here, such as "unet/".
    """
    rules = [
        *encoder_rules(fields, names, source, target),
        *_rules(_way_up(fields), fields, names, source, target),
        *convolution(f"{target}conv_out", f"{source}{names.outside['conv_out']}"),
    ]
    if fields["num_classes"] is not None:
        labels = f"{source}{names.outside['label_embedding']}.weight"
        rules.append(Rule(f"{target}label_embedding/embedding", labels))
    return rules


def encoder_rules(fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
    """The rules of a `models.unet_encoder.UNetEncoder`: conv_in, time embedding, the way down, the middle, and the norm
    behind the last block, which every network has that begins so. Arguments as in `unet_rules`."""
    theirs = {ours: f"{source}{name}" for ours, name in names.outside.items()}
    return [
        *convolution(f"{target}conv_in", theirs["conv_in"]),
        *norm(f"{target}norm_out", theirs["norm_out"]),
        *dense(f"{target}time_embedding/linear_1", theirs["time_embedding/linear_1"]),
        *dense(f"{target}time_embedding/linear_2", theirs["time_embedding/linear_2"]),
        *_rules(_way_down(fields), fields, names, source, target),
    ]


def _rules(
    blocks: Iterable[Block], fields: Mapping[str, Any], names: Names, source: str, target: str
) -> list[Rule]:
    has_context = fields["context_width"] is not None
    rules = []
    for block in blocks:
        ours, theirs = f"{target}{block.name}", f"{source}{names.blocks[block.name]}"
        if block.block_type == "residual":
            rules += _residual(block, names, ours, theirs)
        elif block.block_type == "attention":
            rules += names.attention(ours, theirs, block.heads, has_context)
        else:
            rules += convolution(ours, theirs)
    return rules


def _way_down(fields: Mapping[str, Any]) -> Iterator[Block]:
    """The blocks of the way down and the middle, in the order in which they run."""
    widths, heads, attentive, resample = levels_of(fields)
    levels = range(len(widths))
    for level in levels:
        for r in range(fields["res_blocks"]):
            widens = r == 0 and level > 0 and widths[level] != widths[level - 1]
            yield Block(f"down_{level}_block_{r}", "residual", projects=widens)
            if attentive[level]:
                yield Block(f"down_{level}_attention_{r}", "attention", heads=heads[level])
        if level < levels[-1]:
            yield Block(f"down_{level}_downsample", resample)

    yield Block("middle_block_0", "residual")
    if fields["attention_resolutions"]:
        yield Block("middle_attention", "attention", heads=heads[-1])
    yield Block("middle_block_1", "residual")


def _way_up(fields: Mapping[str, Any]) -> Iterator[Block]:
    _, heads, attentive, resample = levels_of(fields)
    for level in reversed(range(len(attentive))):
        for r in range(fields["res_blocks"] + 1):
            # A skip stands behind what enters: always more channels than leave.
            yield Block(f"up_{level}_block_{r}", "residual", projects=True)
            if attentive[level]:
                yield Block(f"up_{level}_attention_{r}", "attention", heads=heads[level])
        if level > 0:
            yield Block(f"up_{level}_upsample", resample)


def levels_of(fields: Mapping[str, Any]) -> tuple[list[int], list[int], list[bool], str]:
    """Of each level its channels, its heads and whether it has attention; and the kind of the blocks that resample."""
    widths = [int(fields["channels"] * mult) for mult in fields["channel_mult"]]
    heads = [fields["num_heads"] or width // fields["head_channels"] for width in widths]
    attentive = [fields["image_size"] >> level in fields["attention_resolutions"] for level in range(len(widths))]
    return widths, heads, attentive, "residual" if fields["resblock_updown"] else "convolution"


def _residual(block: Block, names: Names, target: str, source: str) -> list[Rule]:
    rules_of = {"norm_1": norm, "conv_1": convolution, "time": dense, "norm_2": norm, "conv_2": convolution}
    if block.projects:
        rules_of["skip"] = pixel_dense
    return [
        rule
        for part, rules in rules_of.items()
        for rule in rules(f"{target}/{part}", f"{source}.{names.residual[part]}")
    ]
