"""The rules of the U-Net (`models.unet`) for any publisher: which blocks it has, once, and what each one calls them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from unclip_jax.models.registry import defaults
from unclip_jax.pretrained.layer_rules import convolution, dense, norm, pixel_dense
from unclip_jax.pretrained.weight_mapping import Rule


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Args:
      name: here, such as "down_0_block_1".
      kind: "residual", "attention", or "convolution" for a plain one that halves or doubles pictures.
      projects: whether a residual block changes the channels, so that its skip path is a linear map.
      heads: of an attention block.
    """

    name: str
    kind: str
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
    return defaults("unet") | dict(fields)


def unet_rules(fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
    """The rules of every parameter.

    Args:
      fields: complete.
      source: what stands before every published name, such as "model.".
      target: what stands before every parameter here, such as "unet/".
    """
    has_context = fields["context_width"] is not None
    rules = _outside(fields, names, source, target)
    for block in blocks(fields):
        ours, theirs = f"{target}{block.name}", f"{source}{names.blocks[block.name]}"
        if block.kind == "residual":
            rules += _residual(block, names, ours, theirs)
        elif block.kind == "attention":
            rules += names.attention(ours, theirs, block.heads, has_context)
        else:
            rules += convolution(ours, theirs)
    return rules


def blocks(fields: Mapping[str, Any]) -> Iterator[Block]:
    """All blocks of a U-Net with these fields, in the order in which they run."""
    widths = [int(fields["channels"] * mult) for mult in fields["channel_mult"]]
    levels, res_blocks = range(len(widths)), fields["res_blocks"]
    resample = "residual" if fields["resblock_updown"] else "convolution"
    attentive = [fields["image_size"] >> level in fields["attention_resolutions"] for level in levels]
    heads = [fields["num_heads"] or width // fields["head_channels"] for width in widths]

    for level in levels:
        for r in range(res_blocks):
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

    for level in reversed(levels):
        for r in range(res_blocks + 1):
            # A skip stands behind what enters: always more channels than leave.
            yield Block(f"up_{level}_block_{r}", "residual", projects=True)
            if attentive[level]:
                yield Block(f"up_{level}_attention_{r}", "attention", heads=heads[level])
        if level > 0:
            yield Block(f"up_{level}_upsample", resample)


def _outside(fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
    theirs = {ours: f"{source}{name}" for ours, name in names.outside.items()}
    rules = [
        *convolution(f"{target}conv_in", theirs["conv_in"]),
        *norm(f"{target}norm_out", theirs["norm_out"]),
        *convolution(f"{target}conv_out", theirs["conv_out"]),
        *dense(f"{target}time_embedding/linear_1", theirs["time_embedding/linear_1"]),
        *dense(f"{target}time_embedding/linear_2", theirs["time_embedding/linear_2"]),
    ]
    if fields["num_classes"] is not None:
        rules.append(Rule(f"{target}label_embedding/embedding", f"{theirs['label_embedding']}.weight"))
    return rules


def _residual(block: Block, names: Names, target: str, source: str) -> list[Rule]:
    kinds = {"norm_1": norm, "conv_1": convolution, "time": dense, "norm_2": norm, "conv_2": convolution}
    if block.projects:
        kinds["skip"] = pixel_dense
    return [
        rule
        for part, kind in kinds.items()
        for rule in kind(f"{target}/{part}", f"{source}.{names.residual[part]}")
    ]
