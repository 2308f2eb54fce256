"""Rules of the U-Net (`models.unet`) for all layouts, which differ only in names."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from unclip_jax.models.network import default_fields
from unclip_jax.models.unet import UNet
from unclip_jax.pretrained.layer_rules import convolution, dense, norm, pixel_dense
from unclip_jax.pretrained.rules import Rule


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of the U-Net.

    Attributes:
      name: Name in this package, such as "down_0_block_1".
      block_type: "residual", "attention", or "convolution" (which only resamples).
      projects: Whether a residual block changes the number of channels and therefore has a projection in its skip
        connection.
      heads: Number of heads of an attention block.
    """

    name: str
    block_type: str
    projects: bool = False
    heads: int = 0


@dataclasses.dataclass(frozen=True)
class Names:
    """Published names of a layout. The keys of all mappings are the names in this package.

    Attributes:
      blocks: Names of the blocks.
      residual: Names of norm_1, conv_1, time, norm_2, conv_2 and skip in a residual block.
      outside: Names of conv_in, norm_out, conv_out, time_embedding/linear_1, time_embedding/linear_2 and
        label_embedding.
      attention: Maps (target, source, heads, has_context) to the rules of an attention block.
    """

    blocks: Mapping[str, str]
    residual: Mapping[str, str]
    outside: Mapping[str, str]
    attention: Callable[[str, str, int, bool], list[Rule]]


def complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the defaults of `models.unet.UNet` to its fields, or to those of a network that contains one."""
    return default_fields(UNet) | dict(fields)


def channel_mult(widths: Sequence[int], channels: int) -> tuple[float, ...]:
    """Returns the channel multipliers of the levels.

    Args:
      widths: Number of channels of each level.
      channels: Base number of channels.

    Returns:
      Integers if possible, otherwise floats.
    """
    exact = [width / channels for width in widths]
    return tuple(int(mult) if mult == int(mult) else mult for mult in exact)


def unet_rules(fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
    """Returns the rules of all parameters of a U-Net.

    Args:
      fields: Fields of the U-Net, including defaults (see `complete`).
      names: The published names.
      source: Prefix of every published name, such as "model.".
      target: Prefix of every parameter, such as "unet/".
    """
    rules = [
        *encoder_rules(fields, names, source, target),
        *_rules(_up_path(fields), fields, names, source, target),
        *convolution(f"{target}conv_out", f"{source}{names.outside['conv_out']}"),
    ]
    if fields["num_classes"] is not None:
        labels = f"{source}{names.outside['label_embedding']}.weight"
        rules.append(Rule(f"{target}label_embedding/embedding", labels))
    return rules


def encoder_rules(fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
    """Returns the rules of a `models.unet_encoder.UNetEncoder`, including the output norm.

    Args:
      fields: Fields of the network, including defaults (see `complete`).
      names: The published names.
      source: Prefix of every published name.
      target: Prefix of every parameter.
    """
    theirs = {ours: f"{source}{name}" for ours, name in names.outside.items()}
    return [
        *convolution(f"{target}conv_in", theirs["conv_in"]),
        *norm(f"{target}norm_out", theirs["norm_out"]),
        *dense(f"{target}time_embedding/linear_1", theirs["time_embedding/linear_1"]),
        *dense(f"{target}time_embedding/linear_2", theirs["time_embedding/linear_2"]),
        *_rules(_down_path(fields), fields, names, source, target),
    ]


def _rules(blocks: Iterable[Block], fields: Mapping[str, Any], names: Names, source: str, target: str) -> list[Rule]:
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


def _down_path(fields: Mapping[str, Any]) -> Iterator[Block]:
    """Yields the blocks of the down path and the bottleneck, in execution order."""
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


def _up_path(fields: Mapping[str, Any]) -> Iterator[Block]:
    _, heads, attentive, resample = levels_of(fields)
    for level in reversed(range(len(attentive))):
        for r in range(fields["res_blocks"] + 1):
            # The skip connection is concatenated to the input, so the number of channels always changes.
            yield Block(f"up_{level}_block_{r}", "residual", projects=True)
            if attentive[level]:
                yield Block(f"up_{level}_attention_{r}", "attention", heads=heads[level])
        if level > 0:
            yield Block(f"up_{level}_upsample", resample)


def levels_of(fields: Mapping[str, Any]) -> tuple[list[int], list[int], list[bool], str]:
    """Returns properties of the levels of a U-Net.

    Args:
      fields: Fields of the U-Net, including defaults (see `complete`).

    Returns:
      For each level, the number of channels, the number of heads and whether it has attention; and the type of the
      blocks that resample (see `Block`).
    """
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
