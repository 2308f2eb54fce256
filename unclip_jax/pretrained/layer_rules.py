"""What the maps of several publishers have in common: rules for PyTorch's layers, and sizes read off names and shapes.

A rule's `{layer}` and `layers` are those of `weight_mapping.Rule`.
"""

from collections.abc import Mapping

import numpy as np

from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule


def dense(target: str, source: str, layers: int | None = None) -> list[Rule]:
    """A linear map: [out, in] becomes [in, out]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o i -> i o", layers=layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def convolution(target: str, source: str) -> list[Rule]:
    """A convolution of pictures: [out, in, height, width] becomes [height, width, in, out]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o i h w -> h w i o"),
        Rule(f"{target}/bias", f"{source}.bias"),
    ]


def pixel_dense(target: str, source: str) -> list[Rule]:
    """A linear map of each pixel, published as a convolution of one pixel."""
    return [Rule(f"{target}/kernel", f"{source}.weight", "o i 1 1 -> i o"), Rule(f"{target}/bias", f"{source}.bias")]


def norm(target: str, source: str, layers: int | None = None) -> list[Rule]:
    """Scale and bias of a norm of any kind."""
    return [
        Rule(f"{target}/scale", f"{source}.weight", layers=layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def separate_heads(target: str, sources: tuple[str, ...], heads: int, layers: int | None = None) -> list[Rule]:
    """Queries, keys and values, or some of them, from a linear map each, to one of [in, parts, heads, width]."""
    kernels, biases = (tuple(f"{source}.{kind}" for source in sources) for kind in ("weight", "bias"))
    return [
        Rule(f"{target}/kernel", kernels, "p (n k) i -> i p n k", {"n": heads}, layers),
        Rule(f"{target}/bias", biases, "p (n k) -> p n k", {"n": heads}, layers),
    ]


def heads_out(target: str, source: str, heads: int, layers: int | None = None) -> list[Rule]:
    """The linear map behind attention: from [heads, width of a head]."""
    return [
        Rule(f"{target}/kernel", f"{source}.weight", "o (n k) -> n k o", {"n": heads}, layers),
        Rule(f"{target}/bias", f"{source}.bias", layers=layers),
    ]


def mlp_ratio(mlp: int, width: int) -> float:
    """A ratio of which `int(width * ratio)` is `mlp`: a quotient may be rounded down."""
    ratio = mlp / width
    return ratio if int(width * ratio) == mlp else float(np.nextafter(ratio, np.inf))


def count_numbers(tensors: Mapping[str, StoredTensor], prefix: str) -> int:
    """How many numbers follow the prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def below(tensors: Mapping[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    """The tensors whose names begin so, named without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
